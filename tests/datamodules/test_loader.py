"""`ResumableDataLoader` without a Trainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from ct_vlm.datamodules import ResumableDataLoader, make_loader
from ct_vlm.errors import CheckpointError


class Numbers(Dataset[dict[str, Any]]):
    """Items that tell index and epoch."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": int(index), "epoch": getattr(index, "epoch", -1)}


def loader(size: int = 11, **arguments: Any) -> ResumableDataLoader:
    return make_loader(Numbers(size), **{"batch_size": 2, "shuffle": True, "seed": 3, **arguments})


def indices(batches: Any) -> list[list[int]]:
    return [batch["index"].tolist() for batch in batches]


def all_epochs(source: ResumableDataLoader, epochs: int) -> list[list[list[int]]]:
    result = []
    for epoch in range(epochs):
        source.set_epoch(epoch)
        result.append(indices(source))
    return result


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("taken", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("epoch", [0, 2])
def test_resumes_with_the_batches_that_were_left(workers: int, taken: int, epoch: int) -> None:
    whole = all_epochs(loader(), 4)
    source = loader(num_workers=workers)
    source.set_epoch(epoch)
    running = iter(source)
    seen = indices(next(running) for _ in range(taken))
    state = source.state_dict()
    resumed = loader(num_workers=workers)
    resumed.load_state_dict(state)
    rest = indices(resumed)
    if taken < 6:
        assert seen + rest == whole[epoch]
    else:
        assert (seen, rest) == (whole[epoch], whole[epoch + 1])
    resumed.set_epoch(epoch + 1)
    assert indices(resumed) == whole[epoch + 1]


def test_state_of_another_epoch_is_not_used() -> None:
    source = loader()
    batches = iter(source)
    next(batches)
    resumed = loader()
    resumed.load_state_dict(source.state_dict())
    resumed.set_epoch(1)
    assert indices(resumed) == all_epochs(loader(), 2)[1]


def test_state_moves_on_after_a_restart() -> None:
    source = loader()
    batches = iter(source)
    next(batches)
    resumed = loader()
    resumed.load_state_dict(source.state_dict())
    assert resumed.state_dict() == source.state_dict()
    batches = iter(resumed)
    next(batches)
    assert resumed.state_dict()["batches"] == 2


@pytest.mark.parametrize(
    "change", [{"size": 12}, {"seed": 4}, {"batch_size": 3}, {"num_replicas": 2}, {"shuffle": False}]
)
def test_other_data_or_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="differ from those of the checkpoint"):
        loader(**change).load_state_dict(loader().state_dict())


def test_state_holds_plain_values() -> None:
    assert all(isinstance(value, int | bool) for value in loader().state_dict().values())


def test_an_epoch_set_before_the_first_batch_counts() -> None:
    source = loader()
    batches = iter(source)
    source.set_epoch(2)
    assert set(next(batches)["epoch"].tolist()) == {2}


@pytest.mark.slow
def test_workers_hear_of_the_epoch() -> None:
    source = loader(num_workers=2, persistent_workers=True)
    for epoch in (0, 3):
        source.set_epoch(epoch)
        assert {epoch} == {value for batch in source for value in batch["epoch"].tolist()}


def test_a_pass_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    indices(loader())
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_is_in_order_and_complete() -> None:
    parts = [loader(shuffle=False, num_replicas=2, rank=rank) for rank in (0, 1)]
    assert [len(part) for part in parts] == [3, 3]
    assert sorted(index for part in parts for batch in indices(part) for index in batch) == list(range(11))
    assert indices(loader(shuffle=False))[0] == [0, 1]


def test_default_batches_are_dicts_of_tensors() -> None:
    batch = next(iter(loader()))
    assert isinstance(batch["index"], torch.Tensor)
