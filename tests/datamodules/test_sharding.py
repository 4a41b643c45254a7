"""Samplers: complete, without repeats in evaluation, and equal batch counts in every process."""

from __future__ import annotations

import pytest
from torch.utils.data import DistributedSampler

from ct_vlm.datamodules import EpochBatchSampler, EpochSampler
from ct_vlm.errors import ConfigError, DatasetError


def shards(size: int, world: int, **arguments: object) -> list[EpochSampler]:
    return [EpochSampler(range(size), num_replicas=world, rank=rank, **arguments) for rank in range(world)]  # type: ignore[arg-type]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [8, 9, 23, 64])
@pytest.mark.parametrize("batch", [1, 2, 4, 5])
def test_evaluation_shows_every_sample_once_in_equally_many_batches(size: int, world: int, batch: int) -> None:
    batches = [list(EpochBatchSampler(s, batch)) for s in shards(size, world, shuffle=False, pad=False)]
    assert len({len(b) for b in batches}) == 1
    assert sorted(index for b in batches for part in b for index in part) == list(range(size))
    lengths = [len(part) for b in batches for part in b]
    assert min(lengths) >= 1
    assert max(lengths) <= (batch if batch > 1 else 2)
    for shard, own in zip(shards(size, world, shuffle=False, pad=False), batches, strict=True):
        assert len(EpochBatchSampler(shard, batch)) == len(own)


@pytest.mark.parametrize(("size", "batch"), [(7, 2), (8, 3), (6, 3), (1, 4)])
def test_one_process_gets_full_batches_in_order(size: int, batch: int) -> None:
    (sampler,) = shards(size, 1, shuffle=False, pad=False)
    expected = [list(range(start, min(start + batch, size))) for start in range(0, size, batch)]
    assert list(EpochBatchSampler(sampler, batch)) == expected


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_training_pads_to_equal_counts(world: int, drop_last: bool) -> None:
    samplers = [EpochBatchSampler(s, 2, drop_last=drop_last) for s in shards(7, world)]
    batches = [list(sampler) for sampler in samplers]
    assert len({len(b) for b in batches}) == 1
    assert [len(sampler) for sampler in samplers] == [len(b) for b in batches]
    seen = [index for b in batches for part in b for index in part]
    if drop_last:
        assert all(len(part) == 2 for b in batches for part in b)
    else:
        assert set(seen) == set(range(7))


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(range(50), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert sorted(order(2, 2)) == list(range(50))


def test_processes_share_one_global_order() -> None:
    whole = list(EpochSampler(range(10), seed=4))
    halves = [list(s) for s in shards(10, 2, seed=4)]
    assert [index for pair in zip(*halves, strict=True) for index in pair] == whole


def test_indices_carry_the_epoch() -> None:
    sampler = EpochSampler(range(3))
    sampler.set_epoch(5)
    assert {index.epoch for batch in EpochBatchSampler(sampler, 2) for index in batch} == {5}  # type: ignore[attr-defined]


def test_lightning_sees_a_distributed_sampler() -> None:
    assert issubclass(EpochSampler, DistributedSampler)


def test_too_few_evaluation_samples_and_bad_batch_size() -> None:
    with pytest.raises(DatasetError, match="1 evaluation samples for 2 processes"):
        EpochBatchSampler(shards(1, 2, shuffle=False, pad=False)[0], 1)
    with pytest.raises(ConfigError, match="batch_size"):
        EpochBatchSampler(shards(4, 1)[0], 0)
