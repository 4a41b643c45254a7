"""What an index of RadGenome-ChestCT took in, and what it left out or set right."""

from __future__ import annotations

from dataclasses import dataclass, field

from ct_vlm.datasets.index_report import IndexReport


@dataclass
class RadGenomeReport(IndexReport):
    """Counts and lists behind the index; entries read ``volume`` or ``volume: what``.

    Args:
        missing_mask_folders: No folder of masks; every region is absent.
        missing_masks: Regions without a mask file; they are absent. Breast and thyroid usually are, and are not
            listed.
        odd_case: Masks and anatomies in another case (``Lung``), taken for the published spelling.
        unknown_anatomies: Region rows whose anatomy is none of the known; left out.
        blank_sentences: Region rows without a sentence; the region has no text.
        conflicting_rows: Regions with several different sentences; the first row was used.

    Example:
        >>> from ct_vlm.datasets.radgenome import RadGenomeReport
        >>> report = RadGenomeReport("data", "train", "preprocessed", blank_sentences=["train_1_a_1: lung"])
        >>> report.issues()
        {'blank_sentences': ['train_1_a_1: lung']}
    """

    missing_mask_folders: list[str] = field(default_factory=list)
    missing_masks: list[str] = field(default_factory=list)
    odd_case: list[str] = field(default_factory=list)
    unknown_anatomies: list[str] = field(default_factory=list)
    blank_sentences: list[str] = field(default_factory=list)
    conflicting_rows: list[str] = field(default_factory=list)
