"""Reports, labels, metadata and the no-chest lists of CT-RATE."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.datasets.audit.geometry_checks import PLAUSIBLE_MM
from ct_vlm.datasets.audit.layouts import is_file
from ct_vlm.datasets.audit.rows import Row, RowMemory, TableReader
from ct_vlm.datasets.layout import CTRateLayout, parse_volume_name
from ct_vlm.datasets.tables import is_missing
from ct_vlm.errors import DatasetError
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.transforms.metadata import ScanMetadata, volume_id

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.datasets.audit.collector import Collector

_REPORT_COLUMNS = ("ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
_METADATA_COLUMNS = ("RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing", "ImageOrientationPatient")
_USABLE_MM = (1e-3, 100.0)  # what `load_volume` accepts
_NO_COLUMN = "-"  # an absent column is one finding, not one a row


class MetadataRow(NamedTuple):
    """What the metadata table says of a volume; ``None`` or NaN where it is blank."""

    spacing: tuple[float, float, float]
    size: tuple[int, ...] | None
    slope: float | None
    intercept: float | None


class SplitTables:
    """Checks the tables of one split and remembers what they list.

    Args:
        layout: Where tables lie.
        split: ``train`` or ``valid``.
        collector: Takes the findings.
    """

    def __init__(self, layout: CTRateLayout, split: str, collector: Collector) -> None:
        self.layout = layout
        self.split = split
        self.collector = collector
        self.names: dict[str, set[str]] = {}
        self.files: dict[str, Path] = {}
        self.rows: dict[str, int] = {}
        self.patients: set[str] = set()
        self.metadata: dict[str, MetadataRow] = {}
        self.no_chest: set[str] = set()

    def check(self) -> None:
        """Read every table of the split."""
        self._check_reports()
        self._check_labels()
        self._check_metadata()
        self._check_no_chest()

    def _open(self, kind: str, columns: tuple[str, ...]) -> TableReader | None:
        """Return a reader of a table, or note that there is none."""
        path = self._find(kind)
        if path is None:
            return None
        self.names[kind] = set()
        return TableReader(path, columns, self.split, self.collector)

    def _find(self, kind: str) -> Path | None:
        """Return a table's place; note one that is absent, or that lies in two places."""
        places = [place for place in self.layout.tables(kind, self.split) if is_file(place)]
        if not places:
            self.collector.add("table.missing", self.layout.tables(kind, self.split)[0], f"{kind} of {self.split}")
            return None
        self.files[kind] = places[0]
        for other in places[1:]:
            if differ(places[0], other):
                self.collector.add("table.two_places", other, f"read: {self.collector.relative(places[0])}")
        return places[0]

    def _close(self, table: TableReader) -> None:
        """Keep what a table listed."""
        self.patients |= table.patients
        self.rows[self.collector.relative(table.path)] = table.rows

    def _check_reports(self) -> None:
        table = self._open("reports", _REPORT_COLUMNS)
        if table is None:
            return
        memory, scans = RowMemory(table, is_per_volume=True), SameForScan(table, "text.recons_differ")
        for name, row in table:
            if not memory.is_new(name, row):
                continue
            self.names["reports"].add(name.volume_id)
            sections = [row.cells.get(column, _NO_COLUMN) for column in ("Findings_EN", "Impressions_EN")]
            missing = [is_missing(text) for text in sections]
            if any(missing):
                code = "no_report" if all(missing) else "no_findings" if missing[0] else "no_impressions"
                said = " and ".join(repr(text) for text, is_blank in zip(sections, missing, strict=True) if is_blank)
                table.note(f"text.{code}", row, f"{name.volume_id}: {said}")
            scans.check(name.study_id, name.volume_id, hash(tuple(text.strip() for text in sections)), row)
        self._close(table)

    def _check_labels(self) -> None:
        table = self._open("labels", CT_RATE_LABELS)
        if table is None:
            return
        memory, scans = RowMemory(table, is_per_volume=True), SameForScan(table, "label.recons_differ")
        for name, row in table:
            if not memory.is_new(name, row):
                continue
            self.names["labels"].add(name.volume_id)
            values = [_label(row.cells.get(label, "0")) for label in CT_RATE_LABELS]
            for label, value in zip(CT_RATE_LABELS, values, strict=True):
                if value is None:
                    table.note("label.not_binary", row, f"{name.volume_id}, {label}: {row.cells[label]!r}")
            scans.check(name.study_id, name.volume_id, hash(tuple(values)), row)
        self._close(table)

    def _check_metadata(self) -> None:
        table = self._open("metadata", _METADATA_COLUMNS)
        if table is None:
            return
        memory = RowMemory(table, is_per_volume=True)
        for name, row in table:
            if not memory.is_new(name, row):
                continue
            self.names["metadata"].add(name.volume_id)
            cells = {column: row.cells.get(column, "") for column in _METADATA_COLUMNS}
            spacing, problem = _spacing(cells["XYSpacing"], cells["ZSpacing"])
            slope, intercept, wrong = _rescale(cells["RescaleSlope"], cells["RescaleIntercept"])
            for found in (problem, wrong, _orientation(cells["ImageOrientationPatient"])):
                if found and cells.keys() <= row.cells.keys():  # an absent column is one finding, not one a row
                    table.note(f"metadata.{found[0]}", row, f"{name.volume_id}: {found[1]}")
            self.metadata[name.volume_id] = MetadataRow(spacing, _size(row), slope, intercept)
        self._close(table)

    def _check_no_chest(self) -> None:
        path = self._find("no_chest")
        if path is None:
            return
        try:
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError as error:
            self.collector.add("table.unreadable", path, error)
            return
        for number, line in enumerate(lines, start=1):
            name = parse_volume_name(volume_id(line))
            if name is not None:
                self.no_chest.add(name.volume_id)
            elif line.strip():
                self.collector.add("no_chest.bad_name", path, line, number)
        self.rows[self.collector.relative(path)] = sum(1 for line in lines if line.strip())


class SameForScan:
    """Finds reconstructions of one scan that a table describes differently."""

    def __init__(self, table: TableReader, code: str) -> None:
        self.table = table
        self.code = code
        self._first: dict[str, tuple[int, str]] = {}

    def check(self, study: str, volume: str, content: int, row: Row) -> None:
        """Note a reconstruction that differs from the first of its scan."""
        first, named = self._first.setdefault(study, (content, volume))
        if first != content:
            self.table.note(self.code, row, f"{volume} differs from {named}")


def differ(first: Path, second: Path) -> bool:
    """Tell whether two files differ; those that cannot be read do."""
    try:
        return first.stat().st_size != second.stat().st_size or first.read_bytes() != second.read_bytes()
    except OSError:
        return True


def _label(cell: str) -> int | None:
    """Return a label, or ``None`` if it is neither 0 nor 1."""
    if cell in {"0", "1"}:
        return int(cell)
    try:
        value = float(cell)
    except ValueError:
        return None
    return int(value) if value in {0.0, 1.0} else None


@lru_cache(maxsize=4096)
def _spacing(in_plane: str, slices: str) -> tuple[tuple[float, float, float], tuple[str, str] | None]:
    """Return the spacing and what is wrong with it."""
    nothing = (math.nan, math.nan, math.nan)
    cells = f"XYSpacing {in_plane!r}, ZSpacing {slices!r}"
    try:
        spacing = ScanMetadata.from_row({"XYSpacing": in_plane, "ZSpacing": slices}).spacing
    except DatasetError:
        return nothing, ("bad_spacing", cells)
    known = [size for size in spacing if not math.isnan(size)]
    if any(not _USABLE_MM[0] <= size <= _USABLE_MM[1] for size in known):
        return nothing, ("bad_spacing", cells)
    if len(known) < 3:
        return spacing, ("blank_spacing", cells)
    if any(not PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1] for size in known):
        return spacing, ("implausible_spacing", cells)
    return spacing, None if in_plane.strip().startswith(("[", "(")) else ("spacing_not_list", cells)


@lru_cache(maxsize=4096)
def _rescale(slope: str, intercept: str) -> tuple[float | None, float | None, tuple[str, str] | None]:
    """Return slope and intercept, and what is wrong with them."""
    cells = f"RescaleSlope {slope!r}, RescaleIntercept {intercept!r}"
    try:
        row = ScanMetadata.from_row({"RescaleSlope": slope, "RescaleIntercept": intercept})
    except DatasetError:
        return None, None, ("bad_rescale", cells)
    if row.slope is None or row.intercept is None:
        return row.slope, row.intercept, ("blank_rescale", cells)
    if not 0 < row.slope <= 100 or abs(row.intercept) > 32768:
        return None, None, ("bad_rescale", cells)
    return row.slope, row.intercept, None


@lru_cache(maxsize=4096)
def _orientation(cell: str) -> tuple[str, str] | None:
    """Return what is wrong with the cosines of rows and columns."""
    try:
        cosines = ScanMetadata.from_row({"ImageOrientationPatient": cell}).orientation
    except DatasetError:
        return "bad_orientation", repr(cell)
    if cosines is None:
        return None
    row, column = cosines[:3], cosines[3:]
    lengths = [math.hypot(*row), math.hypot(*column)]
    product = sum(a * b for a, b in zip(row, column, strict=True))
    if any(abs(length - 1) > 0.01 for length in lengths) or abs(product) > 0.01:
        return "bad_orientation", repr(cell)
    is_axial = abs(row[0]) == max(map(abs, row)) and abs(column[1]) == max(map(abs, column))
    return None if is_axial else ("non_axial", repr(cell))


def _size(row: Row) -> tuple[int, ...] | None:
    """Return columns, rows and slices, or ``None`` where a cell is blank."""
    cells = [row.cells.get(column, "").strip() for column in ("Columns", "Rows", "NumberofSlices")]
    try:
        return tuple(int(float(cell)) for cell in cells)
    except (ValueError, OverflowError):
        return None
