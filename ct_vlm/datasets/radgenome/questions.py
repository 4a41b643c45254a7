"""Questions and answers out of the tables of RadGenome-ChestCT, one task a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.datasets.radgenome.report import RadGenomeReport
from ct_vlm.datasets.radgenome.texts import WHOLE, RegionTexts, check_columns
from ct_vlm.datasets.tables import is_missing, read_table
from ct_vlm.errors import ConfigError
from ct_vlm.text.region_scheme import region_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from ct_vlm.datasets.radgenome.layout import RadGenomeLayout

TASKS: tuple[str, ...] = ("report", "abnormality", "presence", "location", "size", "disorder")
"""What can be asked."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "report": ("Describe the {region}.",),
    "abnormality": ("Which abnormalities does the {region} show?",),
    "presence": ("Is there {subject} in the {region}?",),
    "location": ("Where is the {subject}?",),
    "size": ("How large is the {subject} in the {region}?",),
    "disorder": ("Which disorders does this scan show?",),
}
"""Wording of the questions. It is our own: the tables hold none, and the published templates are a
download of their own. Fields: ``{region}``, the last name of the anatomy's path, and ``{subject}``."""

_TABLES = {
    "report": ("region_report", ()),
    "abnormality": ("vqa_abnormality", ("Anatomy", "Abnormality")),
    "presence": ("vqa_presence", ("Anatomy", "Finding", "Presence")),
    "location": ("vqa_location", ("Anatomy", "Abnormality")),
    "size": ("vqa_size", ("Anatomy", "Abnormality", "Size")),
    "disorder": ("case_disorders", ("Disorders",)),
}
_PRESENCE = {"Yes.", "No."}


class Question(NamedTuple):
    """A question about one volume and its answer.

    Args:
        volume_id: The volume.
        task: One of :data:`TASKS`.
        anatomy: Slash path of the anatomy; ``whole`` for the whole scan.
        subject: Finding it is about; empty where it is about none.
        answer: The answer.
    """

    volume_id: str
    task: str
    anatomy: str
    subject: str
    answer: str

    @property
    def region(self) -> str:
        """Last name of the anatomy's path, the finest place."""
        return self.anatomy.rpartition("/")[2]


def read_questions(
    layout: RadGenomeLayout, split: str, task: str, report: RadGenomeReport | None = None
) -> list[Question]:
    """Return the questions of a task, in the order of the table.

    ``report`` asks for the text of each of the ten regions. Rows of ``abnormality`` about one
    anatomy, of ``location`` about one abnormality, and of ``size`` about one of both make one
    question, whose answer lists them. Equal rows count once; rows with a blank cell, answers of
    ``presence`` other than "Yes." and "No.", and questions answered by both are left out.

    Args:
        layout: Where the tables are.
        split: ``train`` or ``valid``.
        task: One of :data:`TASKS`.
        report: Takes what was left out.

    Raises:
        DatasetError: If the table is missing or malformed.
        ConfigError: If the task is unknown.
    """
    if task not in _TABLES:
        cause = f"Unknown task {task!r}."
        raise ConfigError(cause, f"Use {', '.join(TASKS)}.")
    noted = RadGenomeReport(str(layout.root), split, "preprocessed") if report is None else report
    kind, columns = _TABLES[task]
    path = layout.require_table(kind, split)
    noted.tables[kind] = str(path)
    table = read_table(path)
    noted.rows = len(table)
    if task == "report":
        texts = RegionTexts(region_scheme(), noted).read(table, path)
        return [Question(v, task, r, "", text) for v, rows in texts.items() for r, text in rows.items() if r != WHOLE]
    check_columns(table, columns, path)
    answers: dict[tuple[str, str, str], list[str]] = {}
    for volume, anatomy, subject, answer in _rows(task, table, noted):
        before = answers.setdefault((volume, anatomy, subject), [])
        if answer not in before:
            before.append(answer)
    return list(_questions(task, answers, noted))


def _rows(task: str, table: pd.DataFrame, report: RadGenomeReport) -> Iterator[tuple[str, str, str, str]]:
    """Yield volume, anatomy, subject and answer of every row that can be used."""
    copies = table.reset_index().duplicated()
    report.duplicate_rows.extend(sorted({str(name) for name in table.index[copies.to_numpy()]}))
    if "Anatomy" in table.columns:
        table = table.assign(Anatomy=table["Anatomy"].fillna(WHOLE))
    cells = table.to_dict("records")
    for volume, row in zip(table.index, cells, strict=True):
        values = {str(column): str(value).strip() for column, value in row.items() if not is_missing(value)}
        found = _cells(task, values)
        if found is None or (task == "presence" and found[2] not in _PRESENCE):
            report.blank_sentences.append(f"{volume}: {task}")
            continue
        yield (str(volume), *found)


def _cells(task: str, row: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return anatomy, subject and answer of a row; ``None`` if one is blank."""
    try:
        if task == "disorder":
            return WHOLE, "", row["Disorders"]
        anatomy = row["Anatomy"].lower()
        if task == "abnormality":
            return anatomy, "", row["Abnormality"]
        if task == "location":
            return WHOLE, row["Abnormality"], anatomy.rpartition("/")[2]
        if task == "presence":
            return anatomy, row["Finding"], row["Presence"]
        return anatomy, row["Abnormality"], row["Size"]
    except KeyError:
        return None


def _questions(
    task: str, answers: Mapping[tuple[str, str, str], list[str]], report: RadGenomeReport
) -> Iterator[Question]:
    """Yield one question a key, without those that contradict themselves."""
    for (volume, anatomy, subject), given in answers.items():
        if task == "presence" and len(given) > 1:
            report.conflicting_rows.append(f"{volume}: {subject} in {anatomy}")
            continue
        yield Question(volume, task, anatomy, subject, ", ".join(given))
