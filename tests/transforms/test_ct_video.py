"""HU as 8-bit frames, and how far they are from each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.transforms import CTPreset, film_error, frames_to_hu, hu_to_frames
from ct_vlm.transforms.ct_video import quantisation_error

EVERY_HU = np.arange(-(2**15), 2**15).astype(np.int16)
WINDOWS = [(-1000, 200), (-160, 240), (-1350.5, 150.25)]


@pytest.mark.parametrize("window", WINDOWS)
def test_arrays_tensors_and_preset_windows_give_the_same_bytes(window: tuple[float, float]) -> None:
    expected = hu_to_frames(EVERY_HU, window)
    tensor = torch.from_numpy(EVERY_HU)
    assert np.array_equal(hu_to_frames(EVERY_HU.astype(np.float32), window), expected)
    assert np.array_equal(hu_to_frames(tensor, window).numpy(), expected)
    assert np.array_equal(hu_to_frames(tensor.float(), window).numpy(), expected)
    unit = CTPreset("film", windows=(window,), norm="unit").window(tensor.view(1, 1, 1, 1, -1)).flatten()
    assert np.array_equal((unit * 255).round().to(torch.uint8).numpy(), expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_frames_give_hu_back_within_half_a_step(window: tuple[float, float]) -> None:
    restored = frames_to_hu(hu_to_frames(EVERY_HU, window), window)
    errors = np.abs(restored - np.clip(EVERY_HU.astype(np.float64), *window))
    bound = quantisation_error(window)
    assert bound == pytest.approx((window[1] - window[0]) / 510)
    assert 0.95 * bound <= errors.max() <= bound + 1e-3


def test_bytes_survive_the_way_to_hu_and_back() -> None:
    frames = np.arange(256, dtype=np.uint8)
    assert np.array_equal(hu_to_frames(frames_to_hu(frames)), frames)
    assert torch.equal(frames_to_hu(torch.from_numpy(frames)), torch.from_numpy(frames_to_hu(frames)))


def test_slices_that_are_not_contiguous_are_read_as_they_are() -> None:
    hu = np.arange(-1000, -1000 + 60, dtype=np.int16).reshape(3, 4, 5)
    assert np.array_equal(hu_to_frames(hu[::-1, :, ::2]), hu_to_frames(hu.copy())[::-1, :, ::2])


def test_film_error_is_what_arrays_of_errors_give() -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-1300, 500, (4, 30, 30), dtype=np.int16)
    frames = np.clip(hu_to_frames(hu).astype(int) + rng.integers(-9, 10, hu.shape), 0, 255).astype(np.uint8)
    errors = np.abs(np.clip(hu, -1000, 200) - frames_to_hu(frames).astype(np.float64))
    found = film_error(hu, frames)
    assert found.mean == pytest.approx(errors.mean())
    assert found.rms == pytest.approx(np.sqrt((errors**2).mean()))
    assert found.max == pytest.approx(errors.max())
    assert found.p99 == pytest.approx(np.quantile(errors, 0.99, method="inverted_cdf"), abs=1e-4)
    assert found.clipped == pytest.approx(((hu < -1000) | (hu > 200)).mean())
    assert set(found.to_dict()) == {"mean", "p99", "max", "rms", "clipped"}


def test_film_error_of_frames_in_memory_is_the_quantisation_alone() -> None:
    hu = np.random.default_rng(1).integers(-1000, 201, (2, 40, 40), dtype=np.int16)
    found = film_error(hu, hu_to_frames(hu))
    assert found.max <= quantisation_error() + 1e-3  # frames_to_hu gives float32
    assert found.clipped == 0


@pytest.mark.parametrize("window", [(200, -1000), (0, 0), (0, 1, 2), (0, float("nan"))])
def test_empty_windows_are_named(window: tuple[float, ...]) -> None:
    for call in (lambda: hu_to_frames(EVERY_HU, window), lambda: quantisation_error(window)):
        with pytest.raises(ConfigError, match="window"):
            call()


@pytest.mark.parametrize("hu", [EVERY_HU.astype(np.int32), torch.zeros(3, dtype=torch.int64), np.zeros(3, np.uint8)])
def test_values_that_are_no_hu_are_named(hu: object) -> None:
    with pytest.raises(ShapeError, match="int16 or floats"):
        hu_to_frames(hu)


@pytest.mark.parametrize(
    ("hu", "frames"),
    [
        (np.zeros((2, 3, 3), np.int16), np.zeros((3, 3, 3), np.uint8)),
        (np.zeros((2, 3, 3), np.int32), np.zeros((2, 3, 3), np.uint8)),
        (np.zeros((0, 3, 3), np.int16), np.zeros((0, 3, 3), np.uint8)),
    ],
)
def test_frames_of_another_scan_are_named(hu: np.ndarray, frames: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="cannot be compared"):
        film_error(hu, frames)
