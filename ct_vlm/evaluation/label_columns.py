"""The 18 labels of a file: as columns, or as one list a row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import DatasetError
from ct_vlm.evaluation.names import LABELS_NAME
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ct_vlm.evaluation.reading import Rows

SHOWN = 5


def read_labels(rows: Rows, path: object) -> NDArray[np.float64] | None:
    """Return 0/1 labels, NaN where unknown, or None if the file has not one of their columns.

    Args:
        rows: Rows of the file.
        path: The file, for messages.

    Shape:
        - Output: ``(N, 18)``.

    Raises:
        DatasetError: If some columns are missing, or a value is neither 0, 1 nor blank.
    """
    cells = _columns(rows, path) or _lists(rows, path)
    if cells is None:
        return None
    labels, wrong = np.full((len(cells), len(CT_RATE_LABELS)), np.nan), []
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            value = as_number(cell)
            if value is not None and value in (0.0, 1.0):
                labels[i, j] = value
            elif not is_blank(cell):
                wrong.append((i, CT_RATE_LABELS[j], cell))
    if wrong:
        cause = f"`{path}` holds {len(wrong)} label(s) that are neither 0 nor 1: {_shown(rows, wrong)}."
        raise DatasetError(cause, "Labels are 0, 1 or blank (unknown); pass probabilities as `--scores`.")
    return labels


def read_probabilities(rows: Rows, path: object) -> NDArray[np.float64]:
    """Return probabilities of the labels.

    Args:
        rows: Rows of the file.
        path: The file, for messages.

    Shape:
        - Output: ``(N, 18)``.

    Raises:
        DatasetError: If a column is missing, or a value is no number from 0 to 1.
    """
    cells = _columns(rows, path)
    if cells is None:
        cause = f"`{path}` holds no probabilities; its columns are {', '.join(rows.columns[:12])}."
        raise DatasetError(cause, "Name the columns as the 18 labels of CT-RATE.")
    values = np.array([[math.nan if (n := as_number(cell)) is None else n for cell in row] for row in cells])
    outside = np.argwhere(~((values >= 0) & (values <= 1)))
    if len(outside):
        wrong = [(i, CT_RATE_LABELS[j], cells[i][j]) for i, j in outside.tolist()]
        cause = f"`{path}` holds {len(wrong)} value(s) that are no probabilities: {_shown(rows, wrong)}."
        raise DatasetError(cause, "Write numbers from 0 to 1, e.g. the sigmoid of the logits.")
    return values


def _columns(rows: Rows, path: object) -> list[list[Any]] | None:
    """Return the cells of the 18 columns, or None if there is not one."""
    columns = {label: rows.find([label]) for label in CT_RATE_LABELS}
    absent = [label for label, column in columns.items() if column is None]
    if len(absent) == len(CT_RATE_LABELS):
        return None
    if absent:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        cause = f"`{path}` lacks the label columns {', '.join(absent[:SHOWN])}{more}."
        raise DatasetError(cause, "Add all 18 labels of CT-RATE (blank where unknown), or remove them.")
    return [[row.get(column) for column in columns.values() if column is not None] for row in rows.records]


def _lists(rows: Rows, path: object) -> list[list[Any]] | None:
    """Return the lists of labels that `ct-vlm predict` writes, or None if there are none."""
    if LABELS_NAME not in rows.columns:
        return None
    lists = [row.get(LABELS_NAME) for row in rows.records]
    if not any(isinstance(value, list) for value in lists):
        return None
    empty = [None] * len(CT_RATE_LABELS)
    cells = [empty if value is None else value for value in lists]
    wrong = [i for i, value in enumerate(cells) if not isinstance(value, list) or len(value) != len(CT_RATE_LABELS)]
    if wrong:
        cause = f"`{path}` holds no list of 18 labels under {LABELS_NAME!r} in {where(rows, wrong)}."
        raise DatasetError(cause, "Write the 18 labels of CT-RATE in their order, or remove the key.")
    return cells


def as_number(value: Any) -> float | None:
    """Return a cell as a number, or None if it is none.

    Args:
        value: A cell.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def is_blank(value: Any) -> bool:
    """Tell whether a cell is empty or NaN.

    Args:
        value: A cell.
    """
    if isinstance(value, str):
        return value.strip().casefold() in {"", "nan"}
    return value is None or (isinstance(value, float) and math.isnan(value))


def where(rows: Rows, found: Sequence[int]) -> str:
    """Say where rows stand.

    Args:
        rows: Rows of a file.
        found: Numbers of some of them.
    """
    lines = ", ".join(str(rows.lines[i]) for i in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{rows.unit}{'s' if len(found) > 1 else ''} {lines}{more}"


def _shown(rows: Rows, wrong: Sequence[tuple[int, str, Any]]) -> str:
    """Return the first wrong values and where they stand."""
    return "; ".join(f"{value!r} for {label!r} in {where(rows, [i])}" for i, label, value in wrong[:SHOWN])
