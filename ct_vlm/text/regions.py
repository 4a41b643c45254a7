"""Anatomical regions that structure a chest-CT report.

References:
    RadGenome-ChestCT region masks (ten file stems, spelled as there).
"""

from __future__ import annotations

RADGENOME_REGIONS: tuple[str, ...] = (
    "abdomen",
    "bone",
    "breast",
    "esophagus",
    "heart",
    "lung",
    "mediastinum",
    "pleura",
    "thyroid",
    "trachea and bronchie",
)
"""The ten regions of RadGenome-ChestCT, in the order of its tools (the last is spelled so there)."""
