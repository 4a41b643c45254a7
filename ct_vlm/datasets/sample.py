"""What the index knows of one volume; light, so that worker processes import nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ct_vlm.datasets.layout import VolumeName


@dataclass(frozen=True)
class Sample:
    """One reconstruction of one scan, as the index knows it.

    Args:
        name: The volume's name, taken apart.
        path: Its file.
        report: Target text, if wanted.
        labels: The 18 labels, if wanted and known.
        metadata: Columns that decide HU and geometry (v1 only).
        extras: Columns of the extra tables.
    """

    name: VolumeName
    path: Path
    report: str | None = None
    labels: tuple[float, ...] | None = None
    metadata: Mapping[str, Any] | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
