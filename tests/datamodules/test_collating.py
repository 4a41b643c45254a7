"""Batches of strings, numbers, tensors and optional keys."""

from __future__ import annotations

import math

import pytest
import torch

from ct_vlm.datamodules import collate
from ct_vlm.errors import DatasetError, ShapeError


def test_kinds() -> None:
    items = [
        {
            "image": torch.full((1, 2, 2, 2), n, dtype=torch.int16),
            "age": age,
            "report": f"r{n}",
            "regions": {"lung": "x"},
        }
        for n, age in ((1, 50.0), (2, math.nan))
    ]
    batch = collate(items)
    assert batch["image"].shape == (2, 1, 2, 2, 2)
    assert batch["image"].dtype == torch.int16
    assert batch["age"][0] == 50
    assert batch["age"][1].isnan()
    assert batch["report"] == ["r1", "r2"]
    assert batch["regions"] == [{"lung": "x"}, {"lung": "x"}]


def test_reading_processes_join_in_the_memory_that_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"x": torch.full((2, 3), n)} for n in range(3)]
    assert not collate(items)["x"].is_shared()
    monkeypatch.setattr("torch.utils.data._utils.worker._worker_info", object())
    batch = collate(items)
    assert batch["x"].is_shared()
    assert batch["x"].tolist() == torch.stack([item["x"] for item in items]).tolist()


def test_shapes_must_agree() -> None:
    with pytest.raises(ShapeError, match=r"shape of `image`.*batch size of 1") as caught:
        collate([{"image": torch.zeros(1, 2)}, {"image": torch.zeros(1, 3)}])
    assert "(1, 2), (1, 3)" in caught.value.cause


def test_keys_must_agree() -> None:
    with pytest.raises(DatasetError, match="report"):
        collate([{"a": 1}, {"a": 1, "report": ""}])
