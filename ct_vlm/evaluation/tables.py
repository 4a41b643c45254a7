"""Reports, labels and patients of a file, checked and keyed by volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ct_vlm.datasets.layout import parse_volume_name
from ct_vlm.errors import DatasetError
from ct_vlm.evaluation import names
from ct_vlm.evaluation.label_columns import SHOWN, is_blank, read_labels, read_probabilities, where
from ct_vlm.evaluation.reading import Rows, read_rows
from ct_vlm.text.sections import clean_missing, join_sections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

Role = Literal["predictions", "references"]


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
    CT-RATE's ``Findings_EN`` and ``Impressions_EN``; labels from the 18 columns of CT-RATE, or from a
    list under ``labels``. In a file that holds both texts, labels are the true ones. Case of the
    columns' names does not matter. Where a row has no patient or scan, CT-RATE's volume names give
    both.

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
    ids = _ids(rows, _id_column(rows, id_column, path), path)
    reports = _texts(rows, role, text_column, sections, path)
    labels = None if role == "predictions" and _labels_are_true(rows) else read_labels(rows, path)
    if reports is None and labels is None:
        cause = f"`{path}` holds neither reports nor the 18 labels; its columns are {', '.join(rows.columns[:12])}."
        wanted = names.PREDICTION_NAMES[0] if role == "predictions" else "Findings_EN"
        raise DatasetError(cause, f"Name the text's column {wanted!r}, or pass `text_column`.")
    patients, scans = _owners(rows, ids)
    return ReportTable(ids, reports, labels, patients, scans, str(path))


def read_scores(path: str | Path, id_column: str | None = None) -> tuple[ReportTable, NDArray[np.float64]]:
    """Read label probabilities of volumes.

    Args:
        path: A table or JSON with the 18 labels of CT-RATE as columns.
        id_column: Name of the id's column.

    Returns:
        Volumes and patients (no reports), and the probabilities.

    Shape:
        - Output: ``(N, 18)``.

    Raises:
        DatasetError: If the file cannot be read, or a value is no number from 0 to 1.
    """
    rows = read_rows(path)
    ids = _ids(rows, _id_column(rows, id_column, path), path)
    patients, scans = _owners(rows, ids)
    return ReportTable(ids, patients=patients, scans=scans, source=str(path)), read_probabilities(rows, path)


def _labels_are_true(rows: Rows) -> bool:
    """Tell whether a file of predicted texts holds true labels: as a list, or beside true texts."""
    has_truth = names.LABELS_NAME in rows.columns or rows.find(names.REFERENCE_NAMES[:2]) is not None
    return has_truth and rows.find(names.PREDICTION_NAMES) is not None


def _id_column(rows: Rows, given: str | None, path: object) -> str:
    """Return the column of ids."""
    column = _choose(rows, given, names.ID_NAMES, path, "id")
    if column is None:
        cause = f"`{path}` names no volumes; its columns are {', '.join(rows.columns[:12])}."
        raise DatasetError(cause, f"Name one of them {names.ID_NAMES[0]} or {names.ID_NAMES[1]}, or pass `id_column`.")
    return column


def _choose(rows: Rows, given: str | None, usual: Sequence[str], path: object, what: str) -> str | None:
    """Return the column to read, or None if none of the usual names occurs."""
    if given is not None and given not in rows.columns:
        cause = f"`{path}` has no column {given!r}; it has {', '.join(rows.columns[:12])}."
        raise DatasetError(cause, f"Pass the name of the {what}'s column.")
    return given if given is not None else rows.find(usual)


def _ids(rows: Rows, column: str, path: object) -> tuple[str, ...]:
    """Return the id of each row, each once."""
    values = [row.get(column) for row in rows.records]
    blank = [i for i, value in enumerate(values) if value is None or not names.normalise_id(str(value))]
    if blank:
        cause = f"`{path}` has no {column!r} in {where(rows, blank)}."
        raise DatasetError(cause, "Give every report its volume, or delete the row.")
    ids = tuple(names.normalise_id(str(value)) for value in values)
    seen: dict[str, list[int]] = {}
    for i, value in enumerate(ids):
        seen.setdefault(value, []).append(i)
    twice = {value: found for value, found in seen.items() if len(found) > 1}
    if twice:
        shown = "; ".join(f"{value!r} in {where(rows, found)}" for value, found in list(twice.items())[:SHOWN])
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
    wrong = [i for i, value in enumerate(values) if not (is_blank(value) or isinstance(value, str))]
    if wrong:
        cause = f"`{path}` holds no text under {column!r} in {where(rows, wrong)}: {values[wrong[0]]!r}."
        raise DatasetError(cause, "Write reports as strings, and null where one is missing.")
    return tuple(clean_missing(value) or None for value in values)


def _sections(rows: Rows, sections: str, path: object) -> tuple[str | None, ...] | None:
    """Return the text of section columns."""
    findings = rows.find(names.FINDINGS_NAMES)
    impressions = rows.find(names.IMPRESSIONS_NAMES)
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


def _owners(rows: Rows, ids: Sequence[str]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return patient and scan of each row: from columns, else from CT-RATE's names, else None."""
    parsed = [parse_volume_name(value) for value in ids]
    found = []
    for usual, part in ((names.PATIENT_NAMES, "patient_id"), (names.SCAN_NAMES, "study_id")):
        column = rows.find(usual)
        values = [None if column is None else row.get(column) for row in rows.records]
        owners = [getattr(name, part, None) if is_blank(v) else str(v) for v, name in zip(values, parsed, strict=True)]
        found.append(tuple(map(str, owners)) if all(owner is not None for owner in owners) else None)
    return found[0], found[1]
