"""Resampling against scipy and against slow formulas."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from scipy import ndimage

from ct_vlm.errors import ShapeError
from ct_vlm.transforms.resample import (
    crop_or_pad,
    resample_antialias,
    resample_area,
    resample_linear,
    resample_nearest,
)

SIZES = [(16, 20, 24), (7, 20, 24), (33, 41, 13), (1, 5, 5), (16, 1, 1), (5, 63, 24), (32, 40, 48)]


def reference(array: np.ndarray, size: tuple[int, ...], order: int) -> np.ndarray:
    """Return values at the target voxels' centres in float64, by scipy."""
    grids = [
        np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, have - 1)
        for have, want in zip(array.shape, size, strict=True)
    ]
    points = np.stack(np.meshgrid(*grids, indexing="ij"))
    return ndimage.map_coordinates(array.astype(np.float64), points, order=order, mode="nearest")


@pytest.mark.parametrize("size", SIZES)
def test_linear_equals_float64_reference_up_to_rounding(chest: np.ndarray, size: tuple[int, int, int]) -> None:
    array = np.ascontiguousarray(chest.transpose(2, 1, 0))
    difference = np.abs(resample_linear(array, size) - reference(array, size, 1))
    assert difference.max() <= 0.57


@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 1, 5), (1, 1, 1)])
def test_linear_of_single_slices(shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    result = resample_linear(array, (3, 4, 5))
    assert np.abs(result - reference(array, (3, 4, 5), 1)).max() <= 0.57


def test_equal_size_is_not_copied(chest: np.ndarray) -> None:
    for function in (resample_linear, resample_area, resample_nearest):
        assert function(chest, chest.shape) is chest
    assert crop_or_pad(chest, chest.shape, value=0) is chest


def test_large_values_do_not_wrap() -> None:
    array = np.array([[[-32768, 32767]]], np.int16)
    assert resample_linear(array, (1, 1, 2)).tolist() == [[[-32768, 32767]]]
    assert resample_linear(array, (1, 1, 4)).min() == -32768


def test_area_is_the_mean_of_boxes(chest: np.ndarray) -> None:
    array = chest[:24, :20, :16]
    means = array.reshape(8, 3, 10, 2, 4, 4).astype(float).mean(axis=(1, 3, 5))
    assert np.abs(resample_area(array, (8, 10, 4)) - means).max() <= 0.57


@pytest.mark.parametrize("size", SIZES)
def test_nearest_makes_no_new_labels_and_keeps_places(size: tuple[int, int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 5, (16, 20, 24)).astype(np.uint8)
    result = resample_nearest(labels, size)
    assert result.dtype == np.uint8
    positions = [
        ((np.arange(want) + 0.5) * have / want).astype(int) for have, want in zip(labels.shape, size, strict=True)
    ]
    np.testing.assert_array_equal(result, labels[np.ix_(*positions)])


def test_image_and_labels_stay_aligned() -> None:
    labels = np.zeros((12, 15, 18), np.uint8)
    labels[3:9, 5:10, 6:12] = 1
    image = labels.astype(np.int16) * 1000
    size = (24, 30, 36)
    np.testing.assert_array_equal(resample_nearest(labels, size) == 1, resample_linear(image, size) > 300)


@pytest.mark.parametrize(("mode", "expected"), [("center", [0, 1, 2, 3, 0]), ("end", [1, 2, 3, 0, 0])])
def test_padding(mode: str, expected: list[int]) -> None:
    assert crop_or_pad(np.array([[[1, 2, 3]]]), (1, 1, 5), value=0, mode=mode)[0, 0].tolist() == expected


@pytest.mark.parametrize(("mode", "expected"), [("center", [2, 3]), ("end", [1, 2])])
def test_cropping(mode: str, expected: list[int]) -> None:
    assert crop_or_pad(np.array([[[1, 2, 3, 4]]]), (1, 1, 2), value=0, mode=mode)[0, 0].tolist() == expected


@pytest.mark.parametrize("size", [(7, 11, 24), (20, 33, 13), (16, 21, 25)])
@pytest.mark.parametrize("peak", [4095, 4096, 30000, -4096, -4097])
def test_values_beyond_fixed_point_are_as_exact(chest: np.ndarray, size: tuple[int, int, int], peak: int) -> None:
    array = np.ascontiguousarray(chest.transpose(2, 1, 0))
    array[5, 8:12, 8:12] = peak  # one slice of metal between others
    assert np.abs(resample_linear(array, size) - reference(array, size, 1)).max() <= 0.57


def test_threads_of_opencv_are_as_before(chest: np.ndarray) -> None:
    array = np.ascontiguousarray(chest.transpose(2, 1, 0))
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda size: resample_linear(array, size), [(20, 30, 31)] * 8))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("function", [resample_linear, resample_area, resample_antialias])
def test_results_go_into_given_memory(function) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, (6, 8, 10)).astype(np.int16)
    for size in ((6, 8, 10), (5, 8, 10), (3, 4, 5), (7, 9, 12)):
        out = np.full(size, 77, np.int16)
        assert function(array, size, out=out) is out
        np.testing.assert_array_equal(out, function(array, size))
    for wrong in (np.empty((3, 4, 6), np.int16), np.empty((3, 4, 5), np.int32), np.empty((5, 4, 3), np.int16).T):
        with pytest.raises(ShapeError, match="Expected `out` as C-contiguous int16"):
            function(array, (3, 4, 5), out=wrong)
