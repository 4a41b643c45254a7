"""From folders and tables to a list of samples and a report of everything left out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.index_files import drop_names, list_volumes, match_names
from ct_vlm.datasets.index_report import IndexReport
from ct_vlm.datasets.layout import CTRateLayout, VolumeName, expected_path
from ct_vlm.datasets.sample import Sample
from ct_vlm.datasets.tables import compose_report, parse_labels, read_table
from ct_vlm.errors import DatasetError
from ct_vlm.transforms.metadata import GEOMETRY_COLUMNS, ScanMetadata, volume_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import pandas as pd

_LOG = logging.getLogger(__name__)


@dataclass
class IndexOptions:
    """What an index should hold; the arguments of :class:`ct_vlm.datasets.CTRateDataset`."""

    text: str | None = "findings"
    labels: bool = True
    missing_text: str = "exclude"
    hu_source: str = "auto"
    exclude_no_chest: bool = True
    check_files: bool = True
    patients: Collection[str] | None = None
    exclude: Collection[str] = ()
    extras: pd.DataFrame | None = None


class IndexBuilder:
    """Joins the files and tables of one split.

    Args:
        layout: Where things are.
        split: ``train`` or ``valid``.
        version: ``auto``, ``v1`` or ``v2``.
        options: What is wanted.
    """

    def __init__(self, layout: CTRateLayout, split: str, version: str, options: IndexOptions) -> None:
        self.layout = layout
        self.split = split
        self.options = options
        self.folder, found = layout.volume_folder(split, version)
        self.report = IndexReport(str(layout.root), split, found)

    def build(self, *, quiet: bool = False) -> tuple[list[Sample], IndexReport]:
        """Return the samples in order of their names, and the report.

        Args:
            quiet: Log no warning about what was left out.

        Raises:
            DatasetError: If a table is missing or malformed.
        """
        files = self._files() if self.options.check_files else None
        table = self._table()
        names = self._names(table, files)
        names = self._drop(names)
        samples = self._attach(names, table, files)
        self.report.samples = len(samples)
        if not quiet:
            warn_of(self.report)
        return samples, self.report

    def _files(self) -> dict[str, Path]:
        """Return the volumes on disk by name."""
        return list_volumes(self.folder, self.split, self.report)

    def _read(self, kind: str) -> pd.DataFrame:
        """Read a required table and note which one it was."""
        path = self.layout.require_table(kind, self.split)
        self.report.tables[kind] = str(path)
        return read_table(path)

    def _table(self) -> pd.DataFrame | None:
        """Return the table that the index starts from: reports, else labels, else none."""
        kind = "reports" if self.options.text is not None else "labels" if self.options.labels else None
        if kind is None:
            return None
        table = self._read(kind)
        self.report.rows = len(table)
        repeated = table.index.duplicated()
        self.report.duplicate_rows.extend(sorted({str(name) for name in table.index[repeated]}))
        return table[~repeated]

    def _names(self, table: pd.DataFrame | None, files: dict[str, Path] | None) -> list[VolumeName]:
        """Return the names that both the table and the disk know."""
        if table is None and files is None:
            cause = "An index needs a table or the files, but `text`, `labels` and `check_files` are all off."
            raise DatasetError(cause, "Leave `check_files=True`.")
        listed = None if table is None else [str(name) for name in table.index]
        return match_names(listed, files, self.split, self.report)

    def _drop(self, names: list[VolumeName]) -> list[VolumeName]:
        """Leave out what the caller or CT-RATE's own lists exclude."""
        options = self.options
        no_chest = self._no_chest() if options.exclude_no_chest else set()
        return drop_names(names, self.report, options.patients, options.exclude, no_chest)

    def _no_chest(self) -> set[str]:
        """Return the volumes of CT-RATE's list, given as names or as paths."""
        path = self.layout.find_table("no_chest", self.split)
        self.report.tables["no_chest"] = "no list found" if path is None else str(path)
        if path is None:
            return set()
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return {volume_id(line) for line in lines if line.strip()}

    def _attach(
        self, names: list[VolumeName], table: pd.DataFrame | None, files: dict[str, Path] | None
    ) -> list[Sample]:
        """Give every name its text, labels, metadata and extra columns."""
        texts = self._texts(table)
        labels = self._labels(table)
        metadata = self._metadata()
        extras = {} if self.options.extras is None else self.options.extras.to_dict("index")
        blank = {} if self.options.extras is None else _blank_row(self.options.extras)
        samples = []
        for name in names:
            key = name.volume_id
            if texts is not None and texts.get(key) is None:
                self.report.missing_text.append(key)
                if self.options.missing_text == "exclude":
                    continue
            if metadata is not None and key not in metadata:
                self.report.missing_metadata.append(key)
                continue
            if labels is not None and key not in labels:
                self.report.missing_labels.append(key)
            samples.append(
                Sample(
                    name=name,
                    path=expected_path(self.folder, name) if files is None else files[key],
                    report=None if texts is None else texts.get(key) or "",
                    labels=None if labels is None else labels.get(key),
                    metadata=None if metadata is None else metadata[key],
                    extras={str(column): value for column, value in extras.get(key, blank).items()},
                )
            )
        return samples

    def _texts(self, table: pd.DataFrame | None) -> dict[str, str | None] | None:
        """Return the wanted part of each report."""
        if self.options.text is None or table is None:
            return None
        absent = {"Findings_EN", "Impressions_EN"} - set(table.columns)
        wanted = {"findings": {"Findings_EN"}, "impressions": {"Impressions_EN"}}.get(self.options.text, set())
        if absent & wanted or len(absent) == 2:
            cause = f"`{self.report.tables['reports']}` lacks the columns {sorted(absent)}."
            raise DatasetError(cause, "Use CT-RATE's `*_reports.csv`.")
        findings, impressions = (
            table[column] if column in table.columns else [None] * len(table)
            for column in ("Findings_EN", "Impressions_EN")
        )
        return {
            str(name): compose_report(finding, impression, self.options.text)
            for name, finding, impression in zip(table.index, findings, impressions, strict=True)
        }

    def _labels(self, table: pd.DataFrame | None) -> dict[str, tuple[float, ...]] | None:
        """Return the labels of each volume."""
        if not self.options.labels:
            return None
        source = table if self.options.text is None and table is not None else self._read("labels")
        return parse_labels(source, self.report.tables["labels"])

    def _metadata(self) -> dict[str, Mapping[str, Any]] | None:
        """Return HU and geometry columns of the volumes that can be read; ``None`` where not needed."""
        if self.options.hu_source not in {"auto", "csv"} or (
            self.options.hu_source == "auto" and self.report.version == "v2"
        ):
            return None
        table = self._read("metadata")
        table = table[~table.index.duplicated()]
        columns = [column for column in GEOMETRY_COLUMNS if column in table.columns]
        rows = table[columns].to_dict("index")
        return {str(name): {str(k): v for k, v in row.items()} for name, row in rows.items() if _is_usable(row)}


def warn_of(report: IndexReport) -> None:
    """Log one warning with the counts of everything that was left out or is incomplete."""
    counts = ", ".join(f"{name.replace('_', ' ')} {len(values)}" for name, values in report.issues().items())
    if counts:
        _LOG.warning(
            "%s split of `%s`: %d samples; %s. See `dataset.report`.", report.split, report.root, report.samples, counts
        )


def _is_usable(row: Mapping[Any, Any]) -> bool:
    """Tell whether a metadata row gives slope, intercept and spacing."""
    try:
        metadata = ScanMetadata.from_row(row)
    except DatasetError:
        return False
    spacing = all(value > 0 for value in metadata.spacing)  # NaN compares as False
    return spacing and metadata.slope is not None and metadata.intercept is not None


def _blank_row(table: pd.DataFrame) -> dict[Any, Any]:
    """Return the row of a volume that no extra table lists."""
    return {column: float("nan") if table[column].dtype.kind == "f" else "" for column in table.columns}
