"""Synthetic chest CTs with masks, findings and reports."""

from __future__ import annotations

from ct_vlm.phantoms.facts import LOCATED_LABELS, expected_location, find_location
from ct_vlm.phantoms.generate import describe_phantom, make_phantom
from ct_vlm.phantoms.labels import sample_labels
from ct_vlm.phantoms.schema import LOBES, SEGMENTATION_CLASSES, Finding, Phantom, PhantomConfig, PhantomFacts
from ct_vlm.phantoms.writing import (
    DEFECTS,
    LAYOUTS,
    RADGENOME_DEFECTS,
    PhantomManifest,
    VolumeRecord,
    write_ct_rate,
    write_radgenome,
)

__all__ = [
    "DEFECTS",
    "LAYOUTS",
    "LOBES",
    "LOCATED_LABELS",
    "RADGENOME_DEFECTS",
    "SEGMENTATION_CLASSES",
    "Finding",
    "Phantom",
    "PhantomConfig",
    "PhantomFacts",
    "PhantomManifest",
    "VolumeRecord",
    "describe_phantom",
    "expected_location",
    "find_location",
    "make_phantom",
    "sample_labels",
    "write_ct_rate",
    "write_radgenome",
]
