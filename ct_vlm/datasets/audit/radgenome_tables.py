"""The region reports, disorders and questions of RadGenome-ChestCT."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.ct_rate_tables import differ
from ct_vlm.datasets.audit.layouts import SPLIT_NAMES, bases, is_file
from ct_vlm.datasets.audit.rows import Row, RowMemory, TableReader
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct_vlm.datasets.audit.collector import Collector

TABLES: dict[str, tuple[str, ...]] = {
    "region_report": ("Anatomy", "Sentence"),
    "case_disorders": ("Disorders",),
    "vqa_abnormality": ("Anatomy", "Abnormality"),
    "vqa_location": ("Anatomy", "Abnormality"),
    "vqa_presence": ("Anatomy", "Finding", "Presence"),
    "vqa_size": ("Anatomy", "Abnormality", "Size"),
}
"""Table to its columns beside the volume's."""
_HEADS = frozenset({*RADGENOME_REGIONS, "others", "whole"})
_MOST_LEVELS = 5
_WHOLE = {"", "nan"}
_NUMBER = r"\d+(?:\.\d+)?"
_SIZE = re.compile(rf"{_NUMBER}(?:\s*(?:mm|cm)?\s*[xX\u00d7*]\s*{_NUMBER}){{0,2}}\s*(?:mm|cm)\.?", re.IGNORECASE)


class RegionTables:
    """Checks the six tables of one split.

    Args:
        root: Folder of the data set.
        split: ``train`` or ``valid``.
        collector: Takes the findings.
    """

    def __init__(self, root: Path, split: str, collector: Collector) -> None:
        self.root = root
        self.split = split
        self.collector = collector
        self.files: dict[str, Path] = {}
        self.rows: dict[str, int] = {}
        self.patients: set[str] = set()
        self.reported: set[str] | None = None
        self._with_region: set[str] = set()
        self._sentences: dict[tuple[str, str], str] = {}

    def check(self) -> None:
        """Read every table."""
        for kind, columns in TABLES.items():
            path = self._find(kind)
            if path is None:
                continue
            table = TableReader(path, columns, self.split, self.collector)
            volumes = self._check_table(kind, table, columns)
            self.rows[self.collector.relative(path)] = table.rows
            self.patients |= table.patients
            if kind == "region_report":
                self.reported = volumes
                for name in sorted(volumes - self._with_region):
                    table.note("anatomy.no_region_report", None, name)

    def _find(self, kind: str) -> Path | None:
        """Return a table's place; note one that is absent, or that lies in two places.

        The authors' code looks for `radgenome_files` in the root and in `dataset`.
        """
        names = [f"{name}_{kind}.csv" for name in reversed(SPLIT_NAMES[self.split])]
        folders = [folder for base in bases(self.root) for folder in (base / "radgenome_files", base)]
        places = [folder / name for folder in folders for name in names]
        found = [place for place in places if is_file(place)]
        if not found:
            self.collector.add("table.missing", places[0], f"{kind} of {self.split}")
            return None
        for other in found[1:]:
            if differ(found[0], other):
                self.collector.add("table.two_places", other, f"read: {self.collector.relative(found[0])}")
        self.files[kind] = found[0]
        return found[0]

    def _check_table(self, kind: str, table: TableReader, columns: tuple[str, ...]) -> set[str]:
        """Check every row; return the volumes."""
        checks = [check for column, check in self._checks().items() if column in columns]
        memory = RowMemory(table, is_per_volume=kind == "case_disorders")
        volumes = set()
        for name, row in table:
            volumes.add(name.volume_id)
            if memory.is_new(name, row):
                for check in checks:
                    check(table, name.volume_id, row)
        return volumes

    def _checks(self) -> dict[str, Callable[[TableReader, str, Row], None]]:
        """Return the check of each column; an absent column is noted once, elsewhere."""
        return {
            "Anatomy": self._check_anatomy,
            "Sentence": self._check_sentence,
            "Presence": _check_presence,
            "Size": _check_size,
        }

    def _check_anatomy(self, table: TableReader, volume: str, row: Row) -> None:
        path = row.cells.get("Anatomy", "")
        if path.strip().lower() in _WHOLE:
            return
        levels = path.split("/")
        if len(levels) > _MOST_LEVELS or any(level != level.strip() or not level for level in levels):
            table.note("anatomy.bad_path", row, f"{volume}: {path!r}")
        elif levels[0] not in _HEADS:
            table.note("anatomy.unknown_region", row, f"{volume}: {path!r}")
        elif len(levels) == 1 and levels[0] in RADGENOME_REGIONS:
            self._with_region.add(volume)

    def _check_sentence(self, table: TableReader, volume: str, row: Row) -> None:
        sentence, path = row.cells.get("Sentence", "-").strip(), row.cells.get("Anatomy", "").strip()
        if sentence.lower() in _WHOLE:
            table.note("anatomy.blank_sentence", row, volume)
        elif "/" not in path and sentence != self._sentences.setdefault((volume, path), sentence):
            # deeper rows are no region's report
            table.note("table.conflicting_rows", row, f"{volume}: {path or 'whole scan'}")


def _check_presence(table: TableReader, volume: str, row: Row) -> None:
    answer = row.cells.get("Presence", "Yes.")
    if answer not in {"Yes.", "No."}:
        table.note("vqa.bad_presence", row, f"{volume}: {answer!r}")


def _check_size(table: TableReader, volume: str, row: Row) -> None:
    size = row.cells.get("Size", "1 mm")
    if not _SIZE.fullmatch(size.strip()):
        table.note("vqa.bad_size", row, f"{volume}: {size!r}")
