"""Reports, labels and patients of a file, checked and keyed by volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ct_vlm.datasets.layout import parse_volume_name
from ct_vlm.errors import DatasetError
from ct_vlm.evaluation import names
from ct_vlm.evaluation.reading import Rows, read_rows
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.sections import clean_missing, join_sections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Role = Literal["predictions", "references"]
_SHOWN = 5


@dataclass(frozen=True)
class ReportTable:
    """Reports by volume.

    Args:
        ids: Volume of each row, without folder and suffix.
        reports: Text of each row; ``None`` where there is none. ``None`` as a whole if the file has
            no text.
        labels: 0/1 labels, NaN where unknown; ``None`` if the file has none.
        patients: Patient of each row; ``None`` if unknown.
        scans: Scan of each row; ``None`` if unknown.
        source: The file, for messages and results.

    Shape:
        - labels: ``(N, 18)``.
    """

    ids: tuple[str, ...]
    reports: tuple[str | None, ...] | None = None
    labels: NDArray[np.float64] | None = None
    patients: tuple[str, ...] | None = None
    scans: tuple[str, ...] | None = None
    source: str = ""


def read_reports(
    path: str | Path,
    role: Role = "predictions",
    *,
    id_column: str | None = None,
    text_column: str | None = None,
    sections: str = "findings",
) -> ReportTable:
    r"""Read a file of reports or labels.

    Ids lose folder and suffix. Text is taken from the first column of the usual names, or from
    CT-RATE's ``Findings_EN`` and ``Impressions_EN``; labels from the 18 columns of CT-RATE. Where a
    row has no patient or scan, CT-RATE's volume names give both.

    Args:
        path: CSV, TSV, JSON, JSON lines or the VLM3D challenge's JSON.
        role: Whether text is looked for under names of predictions or of references.
        id_column: Name of the id's column or key.
        text_column: Name of the text's column or key.
        sections: ``findings``, ``impressions`` or ``both``, where sections are columns of their own.

    Raises:
        DatasetError: If the file cannot be read, names no volumes or one twice, or has neither text
            nor labels; the message names file and rows.

    Example:
        >>> import tempfile, pathlib
        >>> from ct_vlm.evaluation import read_reports
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "valid_reports.csv")
        ...     _ = file.write_text("VolumeName,Findings_EN\nvalid_1_a_1.nii.gz,Heart size is normal.\n")
        ...     table = read_reports(file, "references")
        >>> table.ids, table.patients
        (('valid_1_a_1',), ('valid_1',))
    """
    rows = read_rows(path)
    column = _choose(rows, id_column, names.ID_NAMES, path, "id")
    if column is None:
        cause = f"`{path}` names no volumes; its columns are {', '.join(rows.columns[:12])}."
        raise DatasetError(cause, f"Name one of them {names.ID_NAMES[0]} or {names.ID_NAMES[2]}, or pass `id_column`.")
    ids = _ids(rows, column, path)
    reports = _texts(rows, role, text_column, sections, path)
    labels = _labels(rows, path)
    if reports is None and labels is None:
        cause = f"`{path}` holds neither reports nor the 18 labels; its columns are {', '.join(rows.columns[:12])}."
        wanted = names.PREDICTION_NAMES[0] if role == "predictions" else "Findings_EN"
        raise DatasetError(cause, f"Name the text's column {wanted!r}, or pass `text_column`.")
    patients, scans = _owners(rows, ids)
    return ReportTable(ids, reports, labels, patients, scans, str(path))


def has_text(path: str | Path, role: Role) -> bool:
    """Tell whether a file holds reports under the names of a role alone (not ``report`` or ``text``).

    Args:
        path: The file.
        role: Role to look for.
    """
    first = names.PREDICTION_NAMES[0] if role == "predictions" else names.REFERENCE_NAMES[0]
    return first in read_rows(path).columns


def _choose(rows: Rows, given: str | None, usual: Sequence[str], path: object, what: str) -> str | None:
    """Return the column to read, or None if none of the usual names occurs."""
    if given is not None and given not in rows.columns:
        cause = f"`{path}` has no column {given!r}; it has {', '.join(rows.columns[:12])}."
        raise DatasetError(cause, f"Pass the name of the {what}'s column.")
    return given if given is not None else next((name for name in usual if name in rows.columns), None)


def _ids(rows: Rows, column: str, path: object) -> tuple[str, ...]:
    """Return the id of each row, each once."""
    values = [row.get(column) for row in rows.records]
    blank = [i for i, value in enumerate(values) if value is None or not names.normalise_id(str(value))]
    if blank:
        cause = f"`{path}` has no {column!r} in {_where(rows, blank)}."
        raise DatasetError(cause, "Give every report its volume, or delete the row.")
    ids = tuple(names.normalise_id(str(value)) for value in values)
    seen: dict[str, list[int]] = {}
    for i, value in enumerate(ids):
        seen.setdefault(value, []).append(i)
    twice = {value: found for value, found in seen.items() if len(found) > 1}
    if twice:
        shown = "; ".join(f"{value!r} in {_where(rows, found)}" for value, found in list(twice.items())[:_SHOWN])
        cause = f"`{path}` lists {len(twice)} volume(s) more than once: {shown}."
        raise DatasetError(cause, "Keep one row a volume.")
    return ids


def _texts(rows: Rows, role: Role, given: str | None, sections: str, path: object) -> tuple[str | None, ...] | None:
    """Return the text of each row, ``None`` where missing, or None if there is no such column."""
    usual = names.PREDICTION_NAMES if role == "predictions" else names.REFERENCE_NAMES
    column = _choose(rows, given, usual, path, "text")
    if column is None:
        return _sections(rows, sections, path)
    values = [row.get(column) for row in rows.records]
    wrong = [i for i, value in enumerate(values) if not (_is_blank(value) or isinstance(value, str))]
    if wrong:
        cause = f"`{path}` holds no text under {column!r} in {_where(rows, wrong)}: {values[wrong[0]]!r}."
        raise DatasetError(cause, "Write reports as strings, and null where one is missing.")
    return tuple(clean_missing(value) or None for value in values)


def _sections(rows: Rows, sections: str, path: object) -> tuple[str | None, ...] | None:
    """Return the text of section columns."""
    findings = next((name for name in names.FINDINGS_NAMES if name in rows.columns), None)
    impressions = next((name for name in names.IMPRESSIONS_NAMES if name in rows.columns), None)
    wanted = {"findings": (findings,), "impressions": (impressions,), "both": (findings, impressions)}.get(sections)
    if wanted is None:
        cause = f"Expected `sections` to be findings, impressions or both, but got {sections!r}."
        raise DatasetError(cause, "Use 'findings' for what most papers score.")
    if findings is None and impressions is None:
        return None
    if None in wanted:
        cause = f"`{path}` lacks the section that `sections={sections}` asks for."
        raise DatasetError(cause, f"It has {findings or impressions}: choose that one.")
    texts = []
    for row in rows.records:
        cells = [clean_missing(row.get(name)) for name in wanted if name is not None]
        texts.append((cells[0] if len(cells) == 1 else join_sections(*cells)) or None)
    return tuple(texts)


def _labels(rows: Rows, path: object) -> NDArray[np.float64] | None:
    """Return the 18 labels, or None if the file has not one of their columns."""
    present = [label for label in CT_RATE_LABELS if label in rows.columns]
    if not present:
        return None
    if len(present) < len(CT_RATE_LABELS):
        absent = [label for label in CT_RATE_LABELS if label not in present]
        cause = f"`{path}` lacks the label columns {', '.join(absent[:_SHOWN])}."
        raise DatasetError(cause, "Add all 18 labels of CT-RATE (blank where unknown), or remove them.")
    labels = np.full((len(rows.records), len(present)), np.nan)
    wrong = []
    for i, row in enumerate(rows.records):
        for j, label in enumerate(CT_RATE_LABELS):
            value = _number(row.get(label))
            if value is not None and value in (0.0, 1.0):
                labels[i, j] = value
            elif not _is_blank(row.get(label)):
                wrong.append((i, label, row[label]))
    if wrong:
        shown = "; ".join(f"{value!r} for {label!r} in {_where(rows, [i])}" for i, label, value in wrong[:_SHOWN])
        cause = f"`{path}` holds {len(wrong)} label(s) that are neither 0 nor 1: {shown}."
        raise DatasetError(cause, "Labels are 0, 1 or blank (unknown); apply a threshold to probabilities first.")
    return labels


def _owners(rows: Rows, ids: Sequence[str]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return patient and scan of each row: from columns, else from CT-RATE's names, else None."""
    parsed = [parse_volume_name(value) for value in ids]
    found = []
    for usual, part in ((names.PATIENT_NAMES, "patient_id"), (names.SCAN_NAMES, "study_id")):
        column = next((name for name in usual if name in rows.columns), None)
        values = [None if column is None else row.get(column) for row in rows.records]
        owners = [getattr(name, part, None) if _is_blank(v) else str(v) for v, name in zip(values, parsed, strict=True)]
        found.append(tuple(map(str, owners)) if all(owner is not None for owner in owners) else None)
    return found[0], found[1]


def _number(value: Any) -> float | None:
    """Return a cell as a number, or None if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_blank(value: Any) -> bool:
    """Tell whether a cell is empty or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def _where(rows: Rows, found: Sequence[int]) -> str:
    """Say where rows stand."""
    lines = ", ".join(str(rows.lines[i]) for i in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{rows.unit}{'s' if len(found) > 1 else ''} {lines}{more}"
