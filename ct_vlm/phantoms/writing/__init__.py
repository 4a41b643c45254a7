"""Phantoms on disk, in the layouts of public data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.phantoms.writing.ct_rate import write_ct_rate
from ct_vlm.phantoms.writing.defects import DEFECTS
from ct_vlm.phantoms.writing.manifest import PhantomManifest, VolumeRecord
from ct_vlm.phantoms.writing.radgenome import write_radgenome
from ct_vlm.phantoms.writing.radgenome_volume import RADGENOME_DEFECTS

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUTS: dict[str, Callable[..., PhantomManifest]] = {"ct_rate": write_ct_rate, "radgenome": write_radgenome}
"""Layout name to the function that writes it."""

__all__ = [
    "DEFECTS",
    "LAYOUTS",
    "RADGENOME_DEFECTS",
    "PhantomManifest",
    "VolumeRecord",
    "write_ct_rate",
    "write_radgenome",
]
