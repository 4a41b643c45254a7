"""Which samples a process reads, in which order and in which batches: a function of seed and epoch."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import DistributedSampler, Sampler

from ct_vlm.datasets.epoch_index import EpochIndex
from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized

    from numpy.typing import NDArray


class EpochSampler(DistributedSampler[int]):
    """Order of one process: the global order of ``(seed, epoch)``, every world-size-th sample.

    It derives from ``DistributedSampler`` so that Lightning knows that sharding is done.

    Args:
        dataset: Only its length is used.
        shuffle: New order in every epoch; otherwise the data set's order.
        seed: Decides the orders.
        num_replicas: Number of processes.
        rank: This process.
        pad: Repeat the first samples so that all processes get equally many (training); without
            it every sample comes exactly once (evaluation).

    Example:
        >>> from ct_vlm.datamodules import EpochSampler
        >>> [list(EpochSampler(range(5), shuffle=False, num_replicas=2, rank=r, pad=False)) for r in (0, 1)]
        [[0, 2, 4], [1, 3]]
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        pad: bool = True,
    ) -> None:
        super().__init__(
            dataset,  # type: ignore[arg-type]  # a length is all it needs
            num_replicas=num_replicas,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
        )
        self.pad = pad

    def __iter__(self) -> Iterator[int]:
        """Yield this process's indices, each carrying the epoch."""
        return iter([EpochIndex(index, self.epoch) for index in self.shard()])

    @property
    def total(self) -> int:
        """Samples of the whole data set."""
        return len(self.dataset)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Return the number of indices of this process."""
        return len(self._positions())

    def shard(self) -> list[int]:
        """Return this process's indices in the current epoch."""
        order = self.order()
        return [int(order[position % len(order)]) for position in self._positions()]

    def order(self) -> NDArray[np.int64]:
        """Return the samples of all processes in the current epoch."""
        if self.shuffle:
            return np.random.default_rng([self.seed, self.epoch]).permutation(self.total)
        return np.arange(self.total)

    def _positions(self) -> range:
        """Return this process's places in the global order; those past its end wrap around."""
        size = self.total
        end = -(-size // self.num_replicas) * self.num_replicas if self.pad else size
        return range(self.rank, end, self.num_replicas)


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of an :class:`EpochSampler`, equally many in every process.

    Collectives inside a model (e.g. the buffers that DDP broadcasts before each forward pass) need
    the same number of batches everywhere. In training the sampler pads. In evaluation nothing may
    come twice, so a process with fewer samples makes as many batches as the others out of smaller
    ones. At a batch size of 1 the last batch of some processes
    then holds two samples.

    Args:
        sampler: Gives the order; an :class:`EpochSampler`, or what Lightning puts in its place for
            ``overfit_batches``.
        batch_size: Largest batch (but see above).
        drop_last: Leave an incomplete last batch out (training only).

    Attributes:
        start: Batches to leave out at the start of the next pass.

    Raises:
        ConfigError: If the batch size is not positive.
        DatasetError: In evaluation, if there are fewer samples than processes.

    Example:
        >>> from ct_vlm.datamodules import EpochBatchSampler, EpochSampler
        >>> shards = [EpochSampler(range(5), shuffle=False, num_replicas=2, rank=r, pad=False) for r in (0, 1)]
        >>> [list(EpochBatchSampler(shard, 2)) for shard in shards]
        [[[0, 2], [4]], [[1], [3]]]
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, *, drop_last: bool = False) -> None:
        if batch_size < 1:
            cause = f"Expected a positive `batch_size`, but got {batch_size}."
            raise ConfigError(cause, "Use at least 1.")
        if isinstance(sampler, EpochSampler) and not sampler.pad and 0 < sampler.total < sampler.num_replicas:
            cause = f"There are {sampler.total} evaluation samples for {sampler.num_replicas} processes."
            raise DatasetError(cause, "Use fewer processes or more samples.")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.start = 0

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the sampler's epoch, from ``start`` on."""
        indices = list(self.sampler)
        bounds = self._bounds(len(indices))
        for first, last in list(pairwise(bounds))[self.start :]:
            yield indices[first:last]

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self._bounds(len(self.sampler))) - 1  # type: ignore[arg-type]  # every sampler used here is sized

    def _bounds(self, size: int) -> list[int]:
        """Return where batches start, and the end."""
        batch, sampler = self.batch_size, self.sampler
        if not isinstance(sampler, EpochSampler) or sampler.pad:
            end = size // batch * batch if self.drop_last else size
            return [*range(0, end, batch), end] if end else [0]
        total, world = sampler.total, sampler.num_replicas
        batches = min(-(-total // (world * batch)), total // world)
        bounds = [0]
        for left in range(batches, 0, -1):  # full batches first, but at least one sample for each that follows
            remaining = size - bounds[-1]
            bounds.append(bounds[-1] + min(max(batch, -(-remaining // left)), remaining - left + 1))
        return bounds
