"""Check what metrics are given, and name the rows that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.text.sections import clean_missing, is_missing

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence, Sized

    from numpy.typing import NDArray
    from torch import Tensor

_SHOWN = 5


def as_label_matrix(values: Any, name: str, num_labels: int) -> Tensor:
    """Return labels as a float matrix, NaN where unknown.

    Args:
        values: Tensor, array, data frame or rows; a row may be ``None`` (all unknown).
        name: How errors call the argument.
        num_labels: Expected columns K.

    Shape:
        - Output: ``(B, K)``.

    Raises:
        ShapeError: If it is not a matrix with K columns.
        DatasetError: If a value is neither 0, 1 nor NaN.
    """
    matrix = _as_matrix(values, name, num_labels)
    wrong = ~(torch.isnan(matrix) | (matrix == 0) | (matrix == 1))
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        cause = f"`{name}` holds {matrix[row, column].item():g} in row {row}, column {column}; {_rows(wrong.any(1))}."
        raise DatasetError(cause, "Labels are 0, 1 or NaN (unknown); apply a threshold to probabilities first.")
    return matrix


def as_probability_matrix(values: Any, name: str, num_labels: int) -> Tensor:
    """Return probabilities as a float matrix.

    Args:
        values: Tensor, array, data frame or rows.
        name: How errors call the argument.
        num_labels: Expected columns K.

    Shape:
        - Output: ``(B, K)``.

    Raises:
        ShapeError: If it is not a matrix with K columns.
        DatasetError: If a value is NaN or outside [0, 1].
    """
    matrix = _as_matrix(values, name, num_labels)
    wrong = ~((matrix >= 0) & (matrix <= 1))
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        cause = f"`{name}` holds {matrix[row, column].item():g} in row {row}, column {column}; {_rows(wrong.any(1))}."
        raise DatasetError(cause, "Pass probabilities, e.g. the sigmoid of the logits.")
    return matrix


def check_pairs(predictions: Sized, targets: Sized) -> None:
    """Check that predictions and targets are as many.

    Args:
        predictions: One item a report.
        targets: One item a report.

    Raises:
        ShapeError: If they are not.
    """
    if len(predictions) != len(targets):
        cause = f"Expected one prediction a target, but got {len(predictions)} and {len(targets)}."
        raise ShapeError(cause, "Pass None for a missing prediction, so that it counts instead of vanishing.")


def check_unique(ids: Sequence[Hashable], name: str) -> None:
    """Check that no id occurs twice.

    Args:
        ids: One id a row.
        name: How errors call the argument.

    Raises:
        DatasetError: If one does; the message names the first ids and their rows.
    """
    rows: dict[Hashable, list[int]] = {}
    for row, value in enumerate(ids):
        rows.setdefault(value, []).append(row)
    repeated = {value: found for value, found in rows.items() if len(found) > 1}
    if repeated:
        shown = "; ".join(f"{value!r} in rows {', '.join(map(str, found))}" for value, found in _first(repeated))
        cause = f"`{name}` holds {len(repeated)} id(s) more than once: {shown}."
        raise DatasetError(cause, "Keep one row an id.")


def match_ids(
    predictions: Sequence[Hashable], references: Sequence[Hashable], *, allow_missing: bool = True
) -> list[int | None]:
    """Return for each reference the row of its prediction, ``None`` where it has none.

    Args:
        predictions: Id of each prediction.
        references: Id of each reference.
        allow_missing: Accept references without a prediction: they count as missing predictions.

    Raises:
        DatasetError: If an id occurs twice, a prediction has no reference, or (unless allowed) a
            reference no prediction.

    Example:
        >>> from ct_vlm.metrics.functional.inputs import match_ids
        >>> match_ids(["b", "a"], ["a", "b", "c"])
        [1, 0, None]
    """
    check_unique(predictions, "predictions")
    check_unique(references, "references")
    rows = {value: row for row, value in enumerate(predictions)}
    known = set(references)
    unknown = [value for value in predictions if value not in known]
    missing = [value for value in references if value not in rows]
    if unknown or (missing and not allow_missing):
        which, found, of = (
            ("predictions have no reference", unknown, predictions)
            if unknown
            else ("references have no prediction", missing, references)
        )
        cause = f"{len(found)} of {len(of)} {which}: {', '.join(map(repr, found[:_SHOWN]))}."
        raise DatasetError(cause, "Check that both name volumes in the same way (suffix, folder, split).")
    return [rows.get(value) for value in references]


def as_groups(values: Sequence[Hashable], size: int, name: str) -> tuple[NDArray[np.int64], list[Hashable]]:
    """Return the number of each row's group, and the groups in order of appearance.

    Args:
        values: Group of each row, e.g. its patient.
        size: Expected rows.
        name: How errors call the argument.

    Raises:
        ShapeError: If the number of rows differs.
        DatasetError: If a group is missing (``None``, NaN or blank).

    Shape:
        - Output: ``(size,)``.
    """
    groups = list(values)
    if len(groups) != size:
        cause = f"Expected `{name}` with {size} rows, but got {len(groups)}."
        raise ShapeError(cause, "Pass one value a report.")
    blank = [
        row for row, value in enumerate(groups) if is_missing(value) or (isinstance(value, str) and not value.strip())
    ]
    if blank:
        cause = f"`{name}` is missing in row {blank[0]}; {_count(blank)}."
        raise DatasetError(cause, "Pass a value for each report.")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(value, len(numbers)) for value in groups], dtype=np.int64)
    return index, list(numbers)


def as_predicted_texts(predictions: Sequence[Any]) -> tuple[list[str], int]:
    """Return predicted reports, "" for missing ones, and how many are missing.

    Args:
        predictions: Reports; ``None``, NaN and blank text count as missing.

    Raises:
        DatasetError: If an item is neither text nor missing.
    """
    texts = [text if isinstance(text, str) else "" for text in _checked_texts(predictions, "predictions", True)]
    return texts, sum(not clean_missing(text) for text in texts)


def as_reference_texts(references: Sequence[Any]) -> list[str]:
    """Return reference reports.

    Args:
        references: Reports; none may be missing.

    Raises:
        DatasetError: If an item is not text.
    """
    return _checked_texts(references, "references", False)


def _checked_texts(given: Sequence[Any], name: str, allow_missing: bool) -> list[Any]:
    """Return reports as a list; raise with the rows that are no text."""
    if isinstance(given, str):
        cause = f"`{name}` is one string."
        raise DatasetError(cause, "Pass a list of reports.")
    texts = list(given)
    wrong = [
        row for row, text in enumerate(texts) if not (isinstance(text, str) or (allow_missing and is_missing(text)))
    ]
    if wrong:
        cause = f"`{name}` is not text in row {wrong[0]} ({texts[wrong[0]]!r}); {_count(wrong)}."
        raise DatasetError(
            cause, "Pass strings." if not allow_missing else "Pass strings, or None where one is missing."
        )
    return texts


def _as_matrix(values: Any, name: str, num_labels: int) -> Tensor:
    """Convert anything tabular to a float matrix with K columns."""
    if isinstance(values, torch.Tensor):
        matrix = values.detach().cpu().to(torch.float64 if values.dtype == torch.float64 else torch.float32)
    else:
        if isinstance(values, list | tuple):
            values = [[np.nan] * num_labels if row is None else row for row in values]
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            cause = f"`{name}` cannot be read as numbers: {error}."
            raise DatasetError(cause, f"Pass rows of {num_labels} labels.") from error
        matrix = torch.from_numpy(np.array(array.reshape(0, num_labels) if array.size == 0 else array))
    if matrix.ndim != 2 or matrix.shape[1] != num_labels:
        cause = f"Expected `{name}` as (B, {num_labels}), but got {tuple(matrix.shape)}."
        raise ShapeError(cause, "Pass one row a report and one column a label name.")
    return matrix


def _first(found: dict[Hashable, list[int]]) -> list[tuple[Hashable, list[int]]]:
    """Return the first few items of a dict."""
    return list(found.items())[:_SHOWN]


def _rows(wrong: Tensor) -> str:
    """Say which rows are wrong."""
    return _count(wrong.nonzero().flatten().tolist())


def _count(rows: list[int]) -> str:
    """Say how many rows are wrong, and the first of them."""
    more = ", ..." if len(rows) > _SHOWN else ""
    return f"{len(rows)} wrong row(s): {', '.join(map(str, rows[:_SHOWN]))}{more}"
