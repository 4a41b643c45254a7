"""What an index took in and what it left out, and why."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

_SHOWN = 3


@dataclass
class IndexReport:
    """Counts and lists behind a data set's index; nothing is left out without being listed here.

    Args:
        root: Folder of the data set.
        split: Split that was read.
        version: ``v1`` or ``v2``.
        tables: Kind of table to the file that was used.
        rows: Rows of the table that the index starts from.
        files: Volumes found.
        samples: Volumes in the index.
        rows_without_file: Listed in the table, no file.
        files_without_row: File, not listed in the table.
        empty_files: Files of zero bytes.
        unreadable_files: Links that lead nowhere, and files whose size cannot be read.
        unreadable_folders: Folders that cannot be listed, with the reason; their volumes are left out.
        bad_names: Names that are no CT-RATE volume names (or point elsewhere).
        duplicate_rows: Listed more than once; the first row was used.
        duplicate_files: Found in more than one folder; the first was used.
        missing_text: The wanted part of the report is blank.
        no_chest: On CT-RATE's list of scans that show no chest.
        missing_labels: In the index with unknown labels (NaN).
        missing_metadata: v1 volumes without the metadata that gives HU and spacing.
        excluded: Left out on the caller's request.
        other_patients: Not among the patients asked for.
        validation_patients: Patients of CT-RATE's validation split, kept out of training.

    Example:
        >>> from ct_vlm.datasets import IndexReport
        >>> report = IndexReport("data", "train", "v2", rows=3, files=2, samples=2, rows_without_file=["train_9_a_1"])
        >>> print(report)
        train (v2) of data: 2 samples from 3 rows and 2 files
          rows without file        1  train_9_a_1
    """

    root: str
    split: str
    version: str
    tables: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    files: int = 0
    samples: int = 0
    rows_without_file: list[str] = field(default_factory=list)
    files_without_row: list[str] = field(default_factory=list)
    empty_files: list[str] = field(default_factory=list)
    unreadable_files: list[str] = field(default_factory=list)
    unreadable_folders: list[str] = field(default_factory=list)
    bad_names: list[str] = field(default_factory=list)
    duplicate_rows: list[str] = field(default_factory=list)
    duplicate_files: list[str] = field(default_factory=list)
    missing_text: list[str] = field(default_factory=list)
    no_chest: list[str] = field(default_factory=list)
    missing_labels: list[str] = field(default_factory=list)
    missing_metadata: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    other_patients: list[str] = field(default_factory=list)
    validation_patients: list[str] = field(default_factory=list)

    def issues(self) -> dict[str, list[str]]:
        """Return the lists that are not empty, by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, list) and value}

    def __str__(self) -> str:
        """Return a small table of counts with the first names of each list."""
        lines = [
            f"{self.split} ({self.version}) of {self.root}: "
            f"{self.samples} samples from {self.rows} rows and {self.files} files"
        ]
        for name, values in self.issues().items():
            more = ", ..." if len(values) > _SHOWN else ""
            lines.append(f"  {name.replace('_', ' '):<22} {len(values):>3}  {', '.join(values[:_SHOWN])}{more}")
        return "\n".join(lines)
