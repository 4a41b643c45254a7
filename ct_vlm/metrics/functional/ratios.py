"""Precision, recall, F1 and CRG from counts, for many sets of reports at once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

NAMES = ("precision", "recall", "f1")


def check_zero_division(value: float) -> float:
    """Return a zero-division convention.

    Args:
        value: 0, 1 or NaN.

    Raises:
        ConfigError: If it is another value.
    """
    if not (value in (0, 1) or np.isnan(value)):
        cause = f"Expected `zero_division` as 0, 1 or NaN, but got {value!r}."
        raise ConfigError(cause, "0 is scikit-learn's default and what the field prints.")
    return float(value)


def ratios(tp: Array, fp: Array, fn: Array, zero_division: float) -> Array:
    """Return precision, recall and F1.

    Args:
        tp: True positives.
        fp: False positives.
        fn: False negatives.
        zero_division: Value of a ratio whose denominator is 0.

    Shape:
        - tp, fp, fn: any common shape ``(...)``.
        - Output: ``(..., 3)``.
    """
    above = np.stack([tp, tp, 2 * tp], axis=-1)
    below = np.stack([tp + fp, tp + fn, 2 * tp + fp + fn], axis=-1)
    return np.divide(above, below, out=np.full(above.shape, float(zero_division)), where=below > 0)


def mean(values: Array, weights: Array | None = None) -> Array:
    """Return the mean over labels, leaving out NaN.

    Args:
        values: One value a label.
        weights: Weight of each label; where they sum to 0 the plain mean is taken.

    Shape:
        - values: ``(..., K, 3)``.
        - weights: ``(..., K)``.
        - Output: ``(..., 3)``.
    """
    defined = ~np.isnan(values)
    plain = defined.astype(float)
    if weights is not None:
        weighted = np.where(defined, weights[..., None], 0.0)
        plain = np.where(weighted.sum(axis=-2, keepdims=True) > 0, weighted, plain)
    total = plain.sum(axis=-2)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(defined, plain * np.nan_to_num(values), 0.0).sum(axis=-2) / total)


def crg_of_counts(tp: Any, fn: Any, fp: Any, cells: Any) -> Array:
    """Return the CRG score, NaN where there is no positive target.

    Args:
        tp: True positives.
        fn: False negatives.
        fp: False positives.
        cells: Known cells.

    Shape:
        - all arguments and the output: any common shape.
    """
    tp, fn, fp, cells = (np.asarray(value, dtype=np.float64) for value in (tp, fn, fp, cells))
    positives = tp + fn
    with np.errstate(invalid="ignore", divide="ignore"):
        r, u = (cells - positives) / (2 * positives), (cells - positives) / 2
        below = 2 * u - (r * tp - r * fn - fp)
        score = np.where(below == 0, 0.0, u / below)
    return np.where(positives == 0, np.nan, score)
