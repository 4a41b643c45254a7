"""Rare classes more often: weights from labels, and an order that follows them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.datamodules.sharding import EpochSampler
from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence, Sized

    from numpy.typing import NDArray


def class_balanced_weights(labels: Any, power: float = 0.5) -> NDArray[np.float64]:
    """Return how often to draw each sample so that rare labels are seen more often.

    A sample belongs to the class of each of its positive labels, and to a class of its own kind if
    it has none. Its weight is the mean over its classes of ``(1 / size of the class) ** power``,
    scaled to a mean of 1. The power is inferred, not of a paper: 0 changes nothing, 1 evens out
    classes that do not overlap, and 0.5 lies between the two.

    Args:
        labels: 0/1 labels; NaN (unknown) counts as 0.
        power: From 0 (as they are) to 1 (evened out).

    Shape:
        - labels: ``(N, K)``.
        - Output: ``(N,)``.

    Raises:
        ConfigError: If the power is not within [0, 1].
        DatasetError: If labels are no matrix of numbers.

    Example:
        >>> from ct_vlm.datamodules import class_balanced_weights
        >>> class_balanced_weights([[1, 0], [0, 0], [0, 0], [0, 0]], power=1).round(2).tolist()
        [2.0, 0.67, 0.67, 0.67]
    """
    if not 0 <= power <= 1:
        cause = f"Expected `power` within [0, 1], but got {power}."
        raise ConfigError(cause, "Use 0.5, or 1 to even classes out.")
    positive = np.asarray(labels, dtype=np.float64)
    if positive.ndim != 2:
        cause = f"Expected labels as (N, K), but got {positive.shape}."
        raise DatasetError(cause, "Pass one row of labels a sample.")
    positive = np.nan_to_num(positive) == 1
    classes = np.concatenate([positive, ~positive.any(axis=1, keepdims=True)], axis=1)
    rarity = np.maximum(classes.sum(axis=0), 1.0) ** -power
    weights = (classes * rarity).sum(axis=1) / classes.sum(axis=1)
    return np.asarray(weights / weights.mean()) if len(weights) else weights


class BalancedSampler(EpochSampler):
    """An epoch in which each sample comes in proportion to its weight.

    As many samples are drawn as there are, evenly spaced along the summed weights (systematic
    resampling): a sample of weight 2.3 comes two or three times, never more, and what is left out in
    one epoch comes in another. Order and draw depend on seed and epoch alone, so that a resumed run
    repeats them, and processes share one draw.

    Args:
        weights: Weight of each sample, not negative.
        seed: Decides draws and orders.
        num_replicas: Number of processes.
        rank: This process.

    Raises:
        DatasetError: If a weight is negative or not finite, or all are zero.

    Example:
        >>> from ct_vlm.datamodules import BalancedSampler
        >>> sorted(map(int, BalancedSampler([0.0, 3.0, 1.0, 0.0])))
        [1, 1, 1, 2]
    """

    def __init__(
        self, weights: Sequence[float] | Sized, *, seed: int = 0, num_replicas: int = 1, rank: int = 0
    ) -> None:
        values = np.asarray(weights, dtype=np.float64)
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.sum() > 0:
            cause = "Weights must be finite, not negative, and not all zero."
            raise DatasetError(cause, "Use `class_balanced_weights`, or one weight a sample.")
        super().__init__(values, shuffle=True, seed=seed, num_replicas=num_replicas, rank=rank, pad=True)
        self.weights = values
        self.digest = hashlib.sha256(values.tobytes()).hexdigest()[:16]

    def order(self) -> NDArray[np.int64]:
        """Return the drawn samples of the current epoch, shuffled."""
        rng = np.random.default_rng([self.seed, self.epoch])
        ends = np.cumsum(self.weights)
        places = (np.arange(self.total) + rng.random()) * (ends[-1] / self.total)
        # rounding may put the last place at the very end, behind every sample
        last = int(np.flatnonzero(self.weights)[-1])
        drawn = np.minimum(np.searchsorted(ends, places, side="right"), last)
        return rng.permutation(drawn).astype(np.int64)
