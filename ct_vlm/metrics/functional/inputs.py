"""Check what metrics are given, and name the rows that are wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.text.sections import clean_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def check_pairs(predictions: Sequence[Any], targets: Sequence[Any]) -> None:
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


def as_predicted_texts(predictions: Sequence[Any]) -> tuple[list[str], int]:
    """Return predicted reports, "" for missing ones, and how many are missing.

    Args:
        predictions: Reports; ``None``, NaN and blank text count as missing.

    Raises:
        DatasetError: If an item is neither text nor missing.
    """
    _check_texts(predictions, "predictions", allow_missing=True)
    texts = [text if isinstance(text, str) else "" for text in predictions]
    return texts, sum(not clean_missing(text) for text in texts)


def as_reference_texts(references: Sequence[Any]) -> list[str]:
    """Return reference reports.

    Args:
        references: Reports; none may be missing.

    Raises:
        DatasetError: If an item is not text.
    """
    _check_texts(references, "references", allow_missing=False)
    return list(references)


def _check_texts(texts: Sequence[Any], name: str, *, allow_missing: bool) -> None:
    """Raise with the rows that are no text."""
    if isinstance(texts, str):
        cause = f"`{name}` is one string."
        raise DatasetError(cause, "Pass a list of reports.")
    wrong = [
        row for row, text in enumerate(texts) if not (isinstance(text, str) or (allow_missing and _is_missing(text)))
    ]
    if wrong:
        cause = f"`{name}` is not text in row {wrong[0]} ({texts[wrong[0]]!r}); {_count(wrong)}."
        raise DatasetError(
            cause, "Pass strings." if not allow_missing else "Pass strings, or None where one is missing."
        )


def _is_missing(value: Any) -> bool:
    """Tell whether a value stands for no report."""
    return value is None or (isinstance(value, float) and math.isnan(value))


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


def _rows(wrong: Tensor) -> str:
    """Say which rows are wrong."""
    return _count(wrong.nonzero().flatten().tolist())


def _count(rows: list[int]) -> str:
    """Say how many rows are wrong, and the first of them."""
    more = ", ..." if len(rows) > _SHOWN else ""
    return f"{len(rows)} wrong row(s): {', '.join(map(str, rows[:_SHOWN]))}{more}"
