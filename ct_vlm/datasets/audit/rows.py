"""Read tables row by row, with line numbers, past whatever is wrong with them."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.datasets.layout import VolumeName, parse_volume_name
from ct_vlm.transforms.metadata import VOLUME_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ct_vlm.datasets.audit.collector import Collector

_SURROGATES = re.compile("[\udc80-\udcff]")
# UTF-8 read as Latin-1 or Windows-1252, or text that was decoded with losses
_MOJIBAKE = re.compile("\ufffd|\u00c3[\u0080-\u00bf]|\u00e2\u20ac")


class Row(NamedTuple):
    """One row of a table: where it starts, and its cells by column."""

    line: int
    cells: dict[str, str]


class TableReader:
    """Reads one table and notes what is wrong with its form.

    Args:
        path: A CSV.
        columns: Columns that it should have, without the volume's.
        split: Split whose volumes it should list.
        collector: Takes the findings.
    """

    def __init__(self, path: Path, columns: Sequence[str], split: str, collector: Collector) -> None:
        self.path = path
        self.columns = columns
        self.split = split
        self.collector = collector
        self.rows = 0
        self.patients: set[str] = set()
        self._volume_column = ""
        self._names: dict[str, VolumeName | None] = {}

    def __iter__(self) -> Iterator[tuple[VolumeName, Row]]:
        """Yield every row that names a volume of the split."""
        for row in self._rows():
            name = self._name(row)
            if name is not None:
                yield name, row

    def note(self, code: str, row: Row | None = None, detail: object = "") -> None:
        """Note a finding about this table."""
        self.collector.add(code, self.path, detail, None if row is None else row.line)

    def _rows(self) -> Iterator[Row]:
        """Yield the rows that have as many fields as the header."""
        try:
            with self.path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
                reader = csv.reader(stream)
                header = next(reader, [])
                if not self._check_header(header):
                    return
                line = reader.line_num
                for fields in reader:
                    row = Row(line + 1, dict(zip(header, fields, strict=False)))
                    line = reader.line_num
                    if not fields:
                        continue
                    self.rows += 1
                    self._check_text(row, fields)
                    if len(fields) == len(header):
                        yield row
                    else:
                        self.note("table.ragged_row", row, f"{len(fields)} fields for {len(header)} columns")
        except (OSError, csv.Error) as error:
            self.note("table.unreadable", None, error)

    def _check_header(self, header: list[str]) -> bool:
        """Tell whether the table can be read, and note absent columns."""
        if not header:
            self.note("table.unreadable", None, "it is empty")
            return False
        self._volume_column = next((name for name in VOLUME_COLUMNS if name in header), "")
        if not self._volume_column:
            self.note("table.no_volume_column", None, f"columns {header[:8]}")
            return False
        absent = [name for name in self.columns if name not in header]
        if absent:
            self.note("table.missing_column", None, ", ".join(absent))
        return True

    def _check_text(self, row: Row, fields: list[str]) -> None:
        """Note bytes that are no UTF-8, and text that passed through a wrong encoding."""
        text = "".join(fields)
        if text.isascii():
            return
        if _SURROGATES.search(text):
            self.note("table.encoding", row)
        elif _MOJIBAKE.search(text):
            self.note("table.mojibake", row)

    def _name(self, row: Row) -> VolumeName | None:
        """Return the volume that a row is about, or note why there is none."""
        raw = row.cells[self._volume_column]
        if not raw.strip():
            self.note("table.blank_name", row)
            return None
        if raw not in self._names:
            self._names[raw] = parse_volume_name(raw)
        name = self._names[raw]
        if name is None:
            self.note("table.escaping_name" if _may_escape(raw) else "table.bad_name", row, raw)
            return None
        self.patients.add(name.patient_id)
        if name.split != self.split:
            self.note("table.wrong_split", row, raw)
            return None
        return name


class RowMemory:
    """Finds rows that a table repeats; of a volume that is listed once, or of any row.

    Args:
        table: The table.
        is_per_volume: Whether a volume should have one row.
    """

    def __init__(self, table: TableReader, *, is_per_volume: bool) -> None:
        self.table = table
        self.is_per_volume = is_per_volume
        self._seen: dict[str, int] = {}
        self._rows: set[int] = set()

    def is_new(self, name: VolumeName, row: Row) -> bool:
        """Tell whether a row is the first of its kind; note it otherwise."""
        content = hash(tuple(row.cells.values()))
        if not self.is_per_volume:
            if content in self._rows:
                self.table.note("table.duplicate_row", row, name.volume_id)
                return False
            self._rows.add(content)
            return True
        first = self._seen.get(name.volume_id)
        if first is None:
            self._seen[name.volume_id] = content
            return True
        self.table.note("table.duplicate_row" if first == content else "table.conflicting_rows", row, name.volume_id)
        return False


def _may_escape(name: str) -> bool:
    """Tell whether a name is a path that can lead out of the folder it is joined to."""
    parts = name.strip().replace("\\", "/").split("/")
    return ".." in parts or (len(parts) > 1 and (parts[0] in {"", "~"} or parts[0].endswith(":")))
