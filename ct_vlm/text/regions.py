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

MEDREGION_REGIONS: tuple[str, ...] = (
    "lung",
    "large airways",
    "mediastinum",
    "heart and great vessels",
    "osseous structures",
    "upper abdomen",
)
"""The six regions of MedRegion-CT."""

RADGENOME_TO_MEDREGION: dict[str, str] = {
    "lung": "lung",
    "pleura": "lung",
    "trachea and bronchie": "large airways",
    "mediastinum": "mediastinum",
    "esophagus": "mediastinum",
    "thyroid": "mediastinum",
    "heart": "heart and great vessels",
    "bone": "osseous structures",
    "abdomen": "upper abdomen",
    "breast": "other",
}
"""Ten regions to six. Inferred: the paper names the six and not the table; it has none for the breast."""
