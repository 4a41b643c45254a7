"""Filters: against torch's, and what they do to line pairs that the coarser grid cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ct_vlm.transforms import CTPreset, Volume
from ct_vlm.transforms.filters import axis_filter
from ct_vlm.transforms.resample import resample_antialias, resample_area, resample_linear, resize

LENGTHS = [(16, 5), (5, 16), (17, 17), (1, 4), (4, 1), (100, 33), (33, 32), (7, 2)]
SIZES = [(5, 7, 9), (16, 20, 24), (3, 33, 11), (30, 6, 24), (1, 1, 1), (2, 20, 50)]
MILLIMETRES = 0.75


def exact(array: np.ndarray, size: tuple[int, ...], interpolation: str) -> np.ndarray:
    """Return the separable filter in float64."""
    values = array.astype(np.float64)
    for axis, (have, want) in enumerate(zip(array.shape, size, strict=True)):
        matrix = np.zeros((want, have))
        rows = axis_filter(interpolation, have, want)
        for index, (start, weights) in enumerate(zip(rows.starts, rows.weights, strict=True)):
            matrix[index, start : start + len(weights)] = weights
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return values


def line_pairs(period_mm: float, axis: int, shape: tuple[int, int, int] = (96, 80, 88)) -> np.ndarray:
    """Return waves of 0 to 1000 HU along one axis of a grid of 0.75 mm, which holds them."""
    place = (np.arange(shape[axis]) + 0.5) * MILLIMETRES
    bars = np.rint(500 + 500 * np.sin(2 * np.pi * place / period_mm)).astype(np.int16)
    return np.broadcast_to(np.expand_dims(bars, [other for other in range(3) if other != axis]), shape).copy()


@pytest.mark.parametrize(("source", "target"), LENGTHS)
@pytest.mark.parametrize("interpolation", ["linear", "antialias"])
def test_weights_are_those_of_torch(source: int, target: int, interpolation: str) -> None:
    rows = axis_filter(interpolation, source, target)
    assert rows.source == source
    matrix = rows.matrix().toarray() if source != target else np.eye(source)
    unit = torch.eye(source, dtype=torch.float64)[:, None, None]  # each source voxel alone
    flags: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "antialias": interpolation == "antialias"}
    expected = F.interpolate(unit, size=(1, target), **flags)[:, 0, 0].T
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    np.testing.assert_allclose([weights.sum() for weights in rows.weights], 1.0)


@pytest.mark.parametrize(("source", "target"), LENGTHS)
def test_area_is_adaptive_pooling(source: int, target: int) -> None:
    matrix = axis_filter("area", source, target).matrix().toarray()
    expected = F.adaptive_avg_pool1d(torch.eye(source, dtype=torch.float64)[:, None], target)[:, 0].T
    np.testing.assert_allclose(matrix, expected, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["linear", "antialias", "area"])
@pytest.mark.parametrize("size", SIZES)
def test_volumes_equal_float64_up_to_rounding(chest: np.ndarray, interpolation: str, size: Any) -> None:
    array = np.ascontiguousarray(chest.transpose(2, 1, 0))
    found = resize(array, size, interpolation)
    assert found.dtype == np.int16
    assert np.abs(found - exact(array, size, interpolation)).max() <= 0.57


def test_a_part_of_the_targets_has_the_same_weights() -> None:
    whole, part = axis_filter("antialias", 31, 9), axis_filter("antialias", 31, 9, 2, 7)
    assert part.starts == whole.starts[2:7]
    for one, other in zip(part.weights, whole.weights[2:7], strict=True):
        np.testing.assert_array_equal(one, other)


def test_growing_axes_are_linear_under_both_names(chest: np.ndarray) -> None:
    array = np.ascontiguousarray(chest.transpose(2, 1, 0))
    size = (20, 33, 24)
    difference = resample_antialias(array, size).astype(int) - resample_linear(array, size)
    assert np.abs(difference).max() <= 1  # two ways to compute the same, each rounded once


def test_extreme_values_do_not_wrap() -> None:
    array = np.tile(np.array([-32768, 32767], np.int16), (6, 6, 3))
    for function in (resample_linear, resample_antialias, resample_area):
        for size in ((6, 6, 13), (2, 2, 2), (5, 5, 6)):
            found = function(array, size)
            assert np.abs(found - exact(array, size, function.__name__.removeprefix("resample_"))).max() <= 1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("period", [2.6, 3.4, 4.4])
def test_line_pairs_beyond_the_grid_turn_grey_instead_of_false(axis: int, period: float) -> None:
    lines = line_pairs(period, axis)  # 3 mm voxels hold no period below 6 mm
    size = tuple(n // 4 for n in lines.shape)
    aliased, filtered = (function(lines, size)[2:-2, 2:-2, 2:-2] for function in (resample_linear, resample_antialias))
    energy = [float(result.astype(float).var()) for result in (lines, aliased, filtered)]
    assert energy[1] > 0.2 * energy[0]  # bars that are not there
    assert energy[2] < 0.05 * energy[0]
    assert filtered.mean() == pytest.approx(lines.mean(), rel=0.05)


def test_line_pairs_that_the_grid_holds_stay(chest: np.ndarray) -> None:
    lines = line_pairs(24.0, 2)
    size = tuple(n // 4 for n in lines.shape)
    for function in (resample_linear, resample_antialias):
        assert function(lines, size).astype(float).std() > 0.85 * lines.astype(float).std()


def test_preset_takes_the_filter() -> None:
    lines = line_pairs(3.4, 1)
    volume = Volume(lines, (MILLIMETRES,) * 3, np.eye(4))
    preset = CTPreset("x", spacing=3.0, size=(24, 18, 20), interpolation="antialias")
    expected = resample_antialias(lines, (24, 20, 22))[:, 1:19, 1:21]
    np.testing.assert_array_equal(preset.resample(volume), expected)
    assert preset.geometry_hash() != CTPreset("x", spacing=3.0, size=(24, 18, 20)).geometry_hash()
