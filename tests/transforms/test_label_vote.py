"""Label maps by majority against counting on a grid that divides source and target alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ct_vlm.errors import ConfigError
from ct_vlm.transforms import CTPreset, Volume
from ct_vlm.transforms.label_vote import resample_majority
from ct_vlm.transforms.resample import resample_nearest

SIZES = [(3, 5, 4), (6, 10, 8), (4, 4, 3), (1, 1, 1), (5, 15, 12), (9, 3, 20)]


def counted(labels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the most frequent label of each target voxel, the lowest of several, by brute force."""
    fine = labels
    for axis, (have, want) in enumerate(zip(labels.shape, size, strict=True)):
        fine = np.repeat(fine, math.lcm(have, want) // have, axis=axis)
    steps = [n // want for n, want in zip(fine.shape, size, strict=True)]
    result = np.empty(size, labels.dtype)
    for index in np.ndindex(*size):
        block = fine[tuple(slice(i * step, (i + 1) * step) for i, step in zip(index, steps, strict=True))]
        values, counts = np.unique(block, return_counts=True)
        result[index] = values[counts.argmax()]  # the first of equals is the lowest
    return result


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("dtype", "lowest", "highest"), [(np.uint8, 0, 3), (np.int16, -2, 3), (np.int32, -70000, 70000)]
)
def test_equals_counting(size: Any, dtype: Any, lowest: int, highest: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(rng.integers(lowest, highest, 5), (6, 10, 8)).astype(dtype)
    found = resample_majority(labels, size)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, counted(labels, size))


@pytest.mark.parametrize("size", SIZES)
def test_equals_counting_on_organs(size: Any) -> None:
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (9, 11, 10)), indexing="ij"))
    labels = np.zeros((9, 11, 10), np.uint8)
    labels[np.hypot(grid[1] - 5, grid[2] - 3) < 3] = 4
    labels[(grid[0] > 5) & (grid[1] > 4)] = 2
    np.testing.assert_array_equal(resample_majority(labels, size), counted(labels, size))


def test_ties_go_to_the_lowest_label() -> None:
    row = np.array([[[3, 1, 2, 0, 5, 5, 0, 0]]], np.uint8)
    assert resample_majority(row, (1, 1, 4)).tolist() == [[[1, 0, 5, 0]]]
    assert resample_majority(row[..., ::-1], (1, 1, 4)).tolist() == [[[0, 5, 0, 1]]]


def test_equal_size_is_not_copied_and_growing_is_nearest() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 4, 5)).astype(np.uint8)
    assert resample_majority(labels, labels.shape) is labels
    np.testing.assert_array_equal(resample_majority(labels, (9, 12, 15)), resample_nearest(labels, (9, 12, 15)))


def test_thin_lines_vanish_or_fill_whatever_their_place() -> None:
    for place in range(4):
        labels = np.zeros((1, 1, 8), np.uint8)
        labels[..., place] = 1  # a quarter of a target voxel
        assert resample_majority(labels, (1, 1, 2)).max() == 0


def test_preset_takes_the_method() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (6, 10, 8)).astype(np.uint8)
    volume = Volume(np.zeros((6, 10, 8), np.int16), (1.0, 1.0, 1.0), np.eye(4))
    preset = CTPreset("x", spacing=(2.0, 2.0, 2.0), size=(3, 5, 6))
    found = preset.resample_labels(labels, volume, method="majority")
    np.testing.assert_array_equal(found[..., 1:5], counted(labels, (3, 5, 4)))
    assert found[..., 0].max() == 0
    assert (preset.resample_labels(labels, volume) != found).any()
    with pytest.raises(ConfigError, match="method"):
        preset.resample_labels(labels, volume, method="vote")  # type: ignore[arg-type]
