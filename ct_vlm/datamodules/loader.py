"""A DataLoader that goes on in the middle of an epoch with exactly the batches that were left."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from ct_vlm.datamodules.balancing import BalancedSampler
from ct_vlm.datamodules.collating import collate
from ct_vlm.datamodules.sharding import EpochBatchSampler, EpochSampler
from ct_vlm.datamodules.threads import OneThread, one_thread_to_inherit
from ct_vlm.datasets.epoch_index import draw_seed
from ct_vlm.errors import CheckpointError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.utils.data import Sampler


class ResumableDataLoader(DataLoader[Any]):
    """A sharded DataLoader with ``state_dict`` and ``load_state_dict``.

    Lightning saves and restores that state with its checkpoints. The order of an epoch depends on
    seed and epoch alone, and indices carry their epoch (:class:`ct_vlm.datasets.EpochIndex`), so
    the batches after a restart are those an uninterrupted run would have seen, workers or not.

    A pass starts when its first batch is asked for, so an epoch set by then counts. Reading processes
    use one thread each, in torch, OpenCV, blosc2 and OpenMP.

    Args:
        dataset: Map-style data set.
        batch_sampler: From :func:`make_loader`; its sampler shards.
        **kwargs: Further arguments of ``torch.utils.data.DataLoader``.

    Example:
        >>> from ct_vlm.datamodules import make_loader
        >>> loader = make_loader([{"x": n} for n in range(6)], batch_size=2, shuffle=True, seed=1)
        >>> batches = iter(loader)
        >>> _ = next(batches)
        >>> state = loader.state_dict()
        >>> resumed = make_loader([{"x": n} for n in range(6)], batch_size=2, shuffle=True, seed=1)
        >>> resumed.load_state_dict(state)
        >>> [b["x"].tolist() for b in resumed] == [b["x"].tolist() for b in batches]
        True
    """

    def __init__(self, dataset: Any, *, batch_sampler: Sampler[list[int]], **kwargs: Any) -> None:
        # Lightning rebuilds loaders for `predict` and `overfit_batches` with neutral values of these
        for name in ("sampler", "shuffle", "batch_size", "drop_last"):
            kwargs.pop(name, None)
        # worker seeds come from here, so that a pass leaves the model's own random state alone
        kwargs.setdefault("generator", torch.Generator())
        super().__init__(dataset, batch_sampler=batch_sampler, **kwargs)
        self._yielded = 0
        self._resume: tuple[int, int] | None = None
        # DataLoader puts a SequentialSampler here beside a batch sampler and forbids to change it;
        # Lightning looks here for a DistributedSampler to know that sharding is done
        object.__setattr__(self, "sampler", getattr(batch_sampler, "sampler", None))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass (Lightning does it by itself).

        Args:
            epoch: Number of the epoch.
        """
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield batches; nothing happens before the first is asked for."""
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        """Run one pass from where a restored state ends."""
        resume, self._resume = self._resume, None
        start = resume[1] if resume is not None and resume[0] == self._epoch() else 0
        if isinstance(self.batch_sampler, EpochBatchSampler):
            self.batch_sampler.start = start
        self._yielded = start
        self.generator.manual_seed(draw_seed(getattr(self.sampler, "seed", 0), "workers", self._epoch()))
        for batch in self._processes() if self.num_workers else super().__iter__():
            self._yielded += 1
            yield batch

    def _processes(self) -> Iterator[Any]:
        """Start the reading processes, or let those that are there begin anew, and yield their batches.

        Raises:
            DatasetError: If one dies at a moment at which torch does not notice it by itself.
        """
        if not isinstance(self.worker_init_fn, OneThread):
            # here and not in the constructor: Lightning sets its own function where there is none
            context = self.multiprocessing_context or multiprocessing
            forked = context.get_start_method() == "fork"
            self.worker_init_fn = OneThread(self.worker_init_fn, forked=forked)
        with one_thread_to_inherit():
            batches = super().__iter__()
        try:
            yield from batches
        except (ConnectionError, EOFError) as error:
            if str(error).startswith("Caught"):  # the data set's own error, which torch passes on
                raise
            cause = "A reading process died while it handed over a batch."
            raise DatasetError(cause, "Look for a lack of memory, and resume from the last checkpoint.") from error

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the batches given out in it, and what they depend on."""
        return {"epoch": self._epoch(), "batches": self._yielded, **self._identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next pass go on where the state was taken.

        Args:
            state_dict: From :meth:`state_dict`.

        Raises:
            CheckpointError: If data set, seed, batch size or number of processes differ.
        """
        now = self._identity()
        changed = {name: (state_dict.get(name), value) for name, value in now.items() if state_dict.get(name) != value}
        if changed:
            details = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
            cause = f"The training data differ from those of the checkpoint: {details}."
            raise CheckpointError(cause, "Resume with the same data and settings, or start anew from the weights.")
        epoch, batches = int(state_dict["epoch"]), int(state_dict["batches"])
        if batches >= len(self):
            epoch, batches = epoch + 1, 0
        self.set_epoch(epoch)
        self._resume = (epoch, batches)
        self._yielded = batches

    def _epoch(self) -> int:
        """Return the epoch of the next pass."""
        return int(getattr(self.sampler, "epoch", 0))

    def _identity(self) -> dict[str, Any]:
        """Return what the sequence of batches depends on."""
        order = self.sampler
        return {
            "samples": len(self.dataset),  # type: ignore[arg-type]
            "batch_size": getattr(self.batch_sampler, "batch_size", None),
            "seed": getattr(order, "seed", None),
            "shuffle": getattr(order, "shuffle", False),
            "processes": getattr(order, "num_replicas", 1),
            **({"weights": order.digest} if isinstance(order, BalancedSampler) else {}),
        }


def make_loader(
    dataset: Any,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    num_replicas: int = 1,
    rank: int = 0,
    num_workers: int = 0,
    drop_last: bool = False,
    weights: Sequence[float] | None = None,
    **kwargs: Any,
) -> ResumableDataLoader:
    """Return a resumable loader of one process.

    Args:
        dataset: Map-style data set.
        batch_size: Samples a batch and process.
        shuffle: True for training: shuffled, and padded to equally many batches a process. False
            for evaluation: in order, and every sample exactly once.
        seed: Decides the orders.
        num_replicas: Number of processes.
        rank: This process.
        num_workers: Reading processes.
        drop_last: Leave an incomplete last batch out (training only).
        weights: How often to draw each sample in training, relative to the others; see
            :class:`ct_vlm.datamodules.BalancedSampler`.
        **kwargs: Further arguments of ``torch.utils.data.DataLoader``.
    """
    if shuffle and weights is not None:
        order: EpochSampler = BalancedSampler(weights, seed=seed, num_replicas=num_replicas, rank=rank)
        if order.total != len(dataset):
            cause = f"There are {order.total} weights for {len(dataset)} samples."
            raise DatasetError(cause, "Pass one weight a sample.")
    else:
        order = EpochSampler(dataset, shuffle=shuffle, seed=seed, num_replicas=num_replicas, rank=rank, pad=shuffle)
    batches = EpochBatchSampler(order, batch_size, drop_last=drop_last)
    kwargs.setdefault("collate_fn", collate)
    return ResumableDataLoader(dataset, batch_sampler=batches, num_workers=num_workers, **kwargs)
