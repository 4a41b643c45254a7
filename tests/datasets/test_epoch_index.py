"""Indices that know their epoch."""

from __future__ import annotations

import copy
import pickle

import pytest

from ct_vlm.datasets import EpochIndex
from ct_vlm.datasets.epoch_index import draw_seed, epoch_of


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_survives_the_way_to_a_worker(protocol: int) -> None:
    index = pickle.loads(pickle.dumps([EpochIndex(5, 3)], protocol))[0]
    assert (index, index.epoch) == (5, 3)
    assert copy.deepcopy(index).epoch == 3


def test_behaves_as_an_int() -> None:
    assert ["a", "b"][EpochIndex(1, 9)] == "b"
    assert epoch_of(7) == 0
    assert isinstance(EpochIndex(1), int)


def test_draws_depend_on_every_part() -> None:
    draws = {draw_seed(seed, epoch, name) for seed in range(3) for epoch in range(3) for name in ("a", "b")}
    assert len(draws) == 18
    assert draw_seed(1, 23) != draw_seed(12, 3)
    assert all(0 <= draw < 2**63 for draw in draws)
