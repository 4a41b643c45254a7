"""From volumes to scans: several reconstructions of one scan share one report."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.metrics.functional.inputs import as_groups

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

GROUPINGS = ("first", "any", "mean")


def group_scans(
    predictions: Array, targets: Array, scans: Sequence[Hashable] | None, group_by: str | None
) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Join the rows of one scan.

    - ``"first"`` keeps the first volume of each scan, in the order given.
    - ``"any"`` calls a label positive if any volume of the scan does; a scan's prediction is missing
      only if all of its volumes' are. The targets of one scan must agree.
    - ``"mean"`` keeps every volume and gives it the weight 1 / (volumes of its scan), so that each
      scan counts once and the counts are means over its volumes.

    Args:
        predictions: 0/1/NaN labels of volumes.
        targets: 0/1/NaN labels of volumes.
        scans: Scan of each row; None leaves the volumes alone.
        group_by: One of the above.

    Returns:
        Predictions, targets, weight of each row, and the input row each comes from (the first of a
        scan).

    Shape:
        - predictions, targets: ``(B, K)``; outputs ``(N, K)``, ``(N, K)``, ``(N,)``, ``(N,)``.

    Raises:
        ConfigError: If ``group_by`` is unknown, or given without ``scans`` or the reverse.
        DatasetError: If targets of one scan differ under ``"any"``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.functional.scans import group_scans
        >>> said, true = np.array([[1.0], [0.0], [0.0]]), np.array([[1.0], [1.0], [0.0]])
        >>> group_scans(said, true, ["a", "a", "b"], "any")[0].tolist()
        [[1.0], [0.0]]
    """
    if (scans is None) != (group_by is None) or group_by not in (None, *GROUPINGS):
        cause = f"Expected `scans` together with `group_by` in {GROUPINGS}, but got `group_by` = {group_by!r}."
        raise ConfigError(cause, "Pass both to score scans, or none to score volumes.")
    rows = np.arange(len(predictions))
    if scans is None:
        return predictions, targets, np.ones(len(rows)), rows
    index, names = as_groups(scans, len(rows), "scans")
    _, first = np.unique(index, return_index=True)
    if group_by == "mean":
        return predictions, targets, 1.0 / np.bincount(index)[index] if len(index) else np.ones(0), rows
    if group_by == "any":
        _check_agreement(targets, index, first, names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # rows that are NaN altogether stay so
            joined = [np.nanmax(predictions[index == group], axis=0) for group in range(len(names))]
        predictions = np.stack(joined) if joined else predictions
        return predictions, targets[first], np.ones(len(first)), first
    return predictions[first], targets[first], np.ones(len(first)), first


def _check_agreement(
    targets: Array, index: NDArray[np.int64], first: NDArray[np.int64], names: Sequence[Hashable]
) -> None:
    """Raise with the scans whose volumes have different targets."""
    same = ((targets == targets[first][index]) | (np.isnan(targets) & np.isnan(targets[first][index]))).all(axis=1)
    if not same.all():
        wrong = sorted({int(i) for i in index[~same]})
        shown = ", ".join(repr(names[i]) for i in wrong[:5])
        cause = f"The volumes of {len(wrong)} scan(s) have different targets: {shown}."
        raise DatasetError(cause, "Reconstructions share one report: check `scans`, or group by 'mean'.")
