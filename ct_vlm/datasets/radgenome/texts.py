"""The text of each region out of the region reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.datasets.tables import is_missing
from ct_vlm.errors import DatasetError
from ct_vlm.text.region_scheme import TEXT_ONLY
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from ct_vlm.datasets.radgenome.report import RadGenomeReport
    from ct_vlm.text.region_scheme import RegionScheme

WHOLE = "whole"
"""Name under which the row without an anatomy, about the whole scan, is kept."""

_HEADS = frozenset({*RADGENOME_REGIONS, *TEXT_ONLY, WHOLE})


class _Row(NamedTuple):
    """A row that counts: what it is about, how deep it lies, and its text."""

    member: str
    depth: int
    text: str


class RegionTexts:
    """Reads the sentences of every volume.

    Only rows whose anatomy has no slash are the text of a region: deeper ones repeat parts of it.
    For an anatomy that is no region (``left lung upper lobe``) the text is that of the row whose
    path ends in it, the shortest such path first (inferred).

    Of equal rows one counts; of rows that differ the first; a blank sentence is no text. All of
    it is listed in the report.

    Args:
        scheme: The regions that are wanted.
        report: Takes what is left out.
    """

    def __init__(self, scheme: RegionScheme, report: RadGenomeReport) -> None:
        self._scheme = scheme
        self._report = report
        self._wanted = {*scheme.all_members} - set(RADGENOME_REGIONS) if scheme.level == "anatomy" else set()
        self._found: dict[str, dict[str, _Row]] = {}
        self._repeated: set[str] = set()

    def read(self, table: pd.DataFrame, path: str | Path) -> dict[str, dict[str, str]]:
        """Return for each volume the text of regions and anatomies that have one.

        Args:
            table: From :func:`ct_vlm.datasets.tables.read_table`.
            path: Named in errors.

        Raises:
            DatasetError: If a column is absent.
        """
        check_columns(table, ("Anatomy", "Sentence"), path)
        anatomies = table["Anatomy"].where(table["Anatomy"].notna(), WHOLE)
        for volume, anatomy, sentence in zip(table.index, anatomies, table["Sentence"], strict=True):
            self._take(str(volume), str(anatomy), sentence)
        self._report.duplicate_rows.extend(sorted(self._repeated))
        return {volume: {row.member: row.text for row in rows.values()} for volume, rows in self._found.items()}

    def _take(self, volume: str, anatomy: str, sentence: object) -> None:
        """Take a row in, or note why it is left out."""
        levels = anatomy.strip().lower().split("/")
        member = levels[-1]
        if len(levels) == 1 and member not in _HEADS:
            self._report.unknown_anatomies.append(f"{volume}: {anatomy}")
            return
        if len(levels) > 1 and member not in self._wanted:
            return
        if anatomy.rpartition("/")[2] != member:
            self._report.odd_case.append(f"{volume}: {anatomy}")
        if is_missing(sentence):
            self._report.blank_sentences.append(f"{volume}: {'/'.join(levels)}")
            return
        self._keep(volume, _Row(member, len(levels), str(sentence).strip()))

    def _keep(self, volume: str, row: _Row) -> None:
        """Keep a row unless another one of its volume comes first."""
        rows = self._found.setdefault(volume, {})
        before = rows.get(row.member)
        if before is None or row.depth < before.depth:
            rows[row.member] = row
        elif row.depth == before.depth and row.text == before.text:
            self._repeated.add(volume)
        elif row.depth == before.depth:
            self._report.conflicting_rows.append(f"{volume}: {row.member}")


def check_columns(table: pd.DataFrame, columns: tuple[str, ...], path: str | Path) -> None:
    """Raise unless a table has its columns.

    Raises:
        DatasetError: If one is absent.
    """
    absent = [column for column in columns if column not in table.columns]
    if absent:
        cause = f"`{path}` lacks the columns {absent}; it has {list(table.columns)[:8]}."
        raise DatasetError(cause, "Use RadGenome-ChestCT's table; its columns are capitalised like that.")
