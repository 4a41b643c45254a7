"""Per-sample results of an evaluation epoch, gathered over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class EpochRecords:
    """Collect one record a sample and merge the processes' records at the end of an epoch.

    Corpus metrics (F1, BLEU, AUROC) are not means of per-batch values. Scoring the merged records
    gives the same figures on any number of processes; a sample that a sampler repeated to make
    shards even counts once.

    Example:
        >>> from ct_vlm.tasks.records import EpochRecords
        >>> records = EpochRecords()
        >>> records.add([{"id": "b", "x": 1}, {"id": "a", "x": 2}, {"id": "b", "x": 1}])
        >>> [r["id"] for r in records.merge()]
        ['a', 'b']
    """

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []

    def add(self, records: list[dict[str, Any]]) -> None:
        """Add records; each has an ``id`` that names its sample."""
        self._records.extend(records)

    def merge(self) -> list[dict[str, Any]]:
        """Return the records of all processes, one a sample, ordered by id, and forget them."""
        shards = [self._records]
        if dist.is_available() and dist.is_initialized():
            shards = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(shards, self._records)
        self._records = []
        unique = {record["id"]: record for shard in shards for record in shard}
        return [unique[key] for key in sorted(unique)]


def sample_ids(batch: Any, size: int, batch_idx: int) -> list[str]:
    """Return the samples' names, or names made from rank, batch and position where there are none.

    A volume that is asked several questions is as many samples: the question is part of the name.

    Args:
        batch: May hold ``volume_id`` and ``prompt``.
        size: Number of samples.
        batch_idx: Number of the batch.

    Example:
        >>> from ct_vlm.tasks.records import sample_ids
        >>> sample_ids({"volume_id": ["a", "a"], "prompt": ["Any nodule?", "Where?"]}, 2, 0)
        ['a: Any nodule?', 'a: Where?']
    """
    names = batch.get("volume_id")
    if names is not None:
        prompts = batch.get("prompt")
        return [str(name) if prompts is None else f"{name}: {prompts[row]}" for row, name in enumerate(names)]
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return [f"{rank}-{batch_idx:06d}-{i:04d}" for i in range(size)]


def probability_records(
    batch: Any, probabilities: Tensor, label_names: Sequence[str], batch_idx: int
) -> list[dict[str, Any]]:
    """Return one record a sample with the probability of each label, as ``ct-vlm evaluate --scores`` reads them.

    Args:
        batch: May hold ``volume_id`` and ``patient_id``.
        probabilities: Of the labels.
        label_names: Their names.
        batch_idx: Number of the batch.

    Shape:
        - probabilities: ``(B, K)``.

    Example:
        >>> import torch
        >>> from ct_vlm.tasks.records import probability_records
        >>> probability_records({"volume_id": ["a"]}, torch.tensor([[0.5]]), ["Emphysema"], 0)
        [{'id': 'a', 'volume_id': 'a', 'Emphysema': 0.5}]
    """
    names = sample_ids(batch, len(probabilities), batch_idx)
    given = [key for key in ("volume_id", "patient_id") if batch.get(key) is not None]
    rows = zip(names, probabilities.float().tolist(), strict=True)
    return [
        {"id": name, **{key: str(batch[key][row]) for key in given}, **dict(zip(label_names, values, strict=True))}
        for row, (name, values) in enumerate(rows)
    ]


def batch_size(batch: Any) -> int:
    """Return the number of samples of a batch of reports.

    Args:
        batch: Holds ``report``, ``region_reports`` or ``image``.

    Example:
        >>> from ct_vlm.tasks.records import batch_size
        >>> batch_size({"region_reports": [{}, {}]})
        2
    """
    return next(len(batch[key]) for key in ("report", "region_reports", "image") if batch.get(key) is not None)
