"""Shards: disjoint, complete, balanced, the same everywhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_vlm.datasets.preprocessing import Shard
from ct_vlm.errors import ConfigError

ARRAY = "SLURM_ARRAY_TASK_"


class FakePath:
    """A file of a given size."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def stat(self) -> Any:
        if self.size is None:
            raise FileNotFoundError
        return SimpleNamespace(st_size=self.size)


def samples_of(sizes: list[int | None]) -> list[Any]:
    return [
        SimpleNamespace(name=SimpleNamespace(volume_id=f"train_{i}_a_1"), path=FakePath(size))
        for i, size in enumerate(sizes)
    ]


@given(sizes=st.lists(st.one_of(st.none(), st.integers(0, 10**9)), max_size=60), count=st.integers(1, 9))
def test_parts_are_disjoint_complete_and_in_order(sizes: list[int | None], count: int) -> None:
    samples = samples_of(sizes)
    parts = [Shard(number, count).of(samples) for number in range(1, count + 1)]
    places = [[samples.index(sample) for sample in part] for part in parts]
    assert sorted(place for part in places for place in part) == list(range(len(samples)))
    assert all(part == sorted(part) for part in places)
    assert places == [[samples.index(s) for s in Shard(n, count).of(samples)] for n in range(1, count + 1)]


def test_parts_are_balanced_by_size() -> None:
    samples = samples_of([100, 90, 80, 10, 10, 10, 10, 10, 10, 10])
    loads = [sum(s.path.size for s in Shard(number, 3).of(samples)) for number in (1, 2, 3)]
    assert sum(loads) == 340
    assert max(loads) - min(loads) <= 10


def test_the_order_of_the_samples_does_not_matter() -> None:
    samples = samples_of([5, 5, 5, 7, 1, 1])
    forward = {s.name.volume_id for s in Shard(2, 3).of(samples)}
    assert {s.name.volume_id for s in Shard(2, 3).of(samples[::-1])} == forward


def test_files_without_size_are_spread_too() -> None:
    parts = [Shard(number, 4).of(samples_of([None] * 8)) for number in range(1, 5)]
    assert [len(part) for part in parts] == [2, 2, 2, 2]


@pytest.mark.parametrize("text", ["0/8", "9/8", "1/0", "-1/8", "1", "a/b", "1/8/2", ""])
def test_wrong_shards_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="count from 1"):
        Shard.parse(text)


@pytest.mark.parametrize(
    ("task", "first", "last", "step", "count", "expected"),
    [
        ("0", "0", "3", "1", "4", "1/4"),
        ("3", "0", "3", "1", "4", "4/4"),
        ("1", "1", "4", "1", "4", "1/4"),
        ("30", "10", "40", "10", "4", "3/4"),
        ("2", None, None, None, "4", "3/4"),
    ],
)
def test_tasks_of_an_array_know_their_shard(task, first, last, step, count, expected) -> None:
    values = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    environment = {ARRAY + name: value for name, value in values.items() if value is not None}
    assert str(Shard.parse("auto", environment)) == expected


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ID": "1"},
        {"ID": "3", "COUNT": "2", "MIN": "3", "MAX": "7", "STEP": "1"},  # --array=3,7
        {"ID": "2", "COUNT": "2", "MIN": "1", "MAX": "3", "STEP": "2"},
    ],
)
def test_tasks_without_a_clear_shard_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="i/n"):
        Shard.parse("auto", {ARRAY + name: value for name, value in values.items()})


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ARRAY + "ID", "1")
    monkeypatch.setenv(ARRAY + "COUNT", "2")
    monkeypatch.setenv(ARRAY + "MIN", "1")
    assert Shard.parse("auto") == Shard(1, 2)
