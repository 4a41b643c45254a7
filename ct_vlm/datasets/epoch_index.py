"""An index that carries its epoch to the worker process that reads the sample."""

from __future__ import annotations

import hashlib
from typing import Self


class EpochIndex(int):
    """An ``int`` that also knows the epoch it was drawn in.

    Worker processes hold a copy of the data set and never hear of a new epoch; an index that
    carries it keeps random choices (which reconstruction, which patch, which augmentation) a
    function of seed, epoch and index alone, so a resumed run repeats them.

    Example:
        >>> from ct_vlm.datasets import EpochIndex
        >>> index = EpochIndex(5, epoch=2)
        >>> index + 1, index.epoch
        (6, 2)
    """

    epoch: int

    def __new__(cls, value: int, epoch: int = 0) -> Self:
        """Make an index.

        Args:
            value: Position in the data set.
            epoch: Epoch it was drawn in.
        """
        index = super().__new__(cls, value)
        index.epoch = epoch
        return index

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        """Keep the epoch when sent to a worker."""
        return int(self), self.epoch


def epoch_of(index: int) -> int:
    """Return the epoch an index carries, 0 for a plain int."""
    return getattr(index, "epoch", 0)


def draw_seed(seed: int, *parts: object) -> int:
    """Return a 63-bit number that depends on nothing but its arguments.

    Args:
        seed: The run's seed.
        *parts: What the draw belongs to, e.g. epoch and sample.
    """
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
