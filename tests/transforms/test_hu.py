"""The HU guard: what passes, what does not, and how padding is told from a double rescale."""

from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.errors import HUError
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.transforms import check_hu
from ct_vlm.transforms.hu import clip_padding, hu_statistics, resolve_hu_source, to_hu


def with_circle(chest: np.ndarray, fill: int) -> np.ndarray:
    """Return the chest with everything outside a circle set to one value, as scanners do."""
    x, y = np.meshgrid(np.linspace(-1, 1, chest.shape[0]), np.linspace(-1, 1, chest.shape[1]), indexing="ij")
    padded = chest.copy()
    padded[x**2 + y**2 > 1] = fill
    return padded


@pytest.mark.parametrize("fill", [-1500, -2000, -2048, -3024, -8192, -32768])
def test_padding_is_clipped_and_a_double_rescale_of_it_still_raises(chest: np.ndarray, fill: int) -> None:
    padded = with_circle(chest, fill)
    check_hu(padded)
    clipped, repairs = clip_padding(padded)
    np.testing.assert_array_equal(clipped, np.maximum(padded, -1024))
    assert f"{(padded < -1024).sum():,} voxels" in repairs[0]
    with pytest.raises(HUError, match="rescaled twice"):
        check_hu(np.maximum(padded.astype(int) - 1024, -32768).astype(np.int16))


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("fill", [None, -2000, -3024])
def test_a_wrong_slope_is_not_taken_for_padding(chest: np.ndarray, factor: int, fill: int | None) -> None:
    scaled = chest.astype(int) * factor
    if fill is not None:
        scaled = with_circle(scaled, fill)
    with pytest.raises(HUError, match="wrong slope"):
        check_hu(scaled.astype(np.int16))


@pytest.mark.parametrize("fill", [None, -2000])
def test_inverted_values_raise(chest: np.ndarray, fill: int | None) -> None:
    inverted = -chest if fill is None else with_circle(-chest, fill)
    with pytest.raises(HUError, match="sign inverted"):
        check_hu(inverted)


def test_soft_tissue_rescaled_twice_raises() -> None:
    rng = np.random.default_rng(0)
    tissue = rng.normal(40, 20, (12, 12, 12))
    tissue[:4] = rng.normal(-105, 20, (4, 12, 12))  # fat
    check_hu(tissue.astype(np.int16))
    with pytest.raises(HUError, match="rescaled twice"):
        check_hu((tissue - 1024).astype(np.int16))


def test_lungs_cut_out_with_padding_around_pass(chest: np.ndarray) -> None:
    for fill in (-1024, -2000, -8192):
        check_hu(np.where(chest < -700, chest, np.int16(fill)))


def test_one_voxel_below_the_padding_does_not_hide_it(chest: np.ndarray) -> None:
    padded = with_circle(chest, -2000)
    padded[0, 0, 0] = -8192
    check_hu(padded)


@pytest.mark.parametrize("label", [*CT_RATE_LABELS, None])
def test_phantoms_pass_and_their_wrong_rescales_do_not(label: str | None) -> None:
    from ct_vlm.phantoms import make_phantom

    volume = make_phantom(3, (24, 32, 32), labels=[] if label is None else [label]).volume
    check_hu(volume)
    for wrong in (volume * 2, volume * 4, -volume, volume - 1024, volume + 1024):
        with pytest.raises(HUError):
            check_hu(wrong)


@pytest.mark.parametrize("fill", [-2000, 0])
def test_raw_values_with_padding_raise(chest: np.ndarray, fill: int) -> None:
    with pytest.raises(HUError, match="not rescaled"):
        check_hu(with_circle((chest + 1024).astype(np.int16), fill))


def test_interpolated_padding_edges_pass(chest: np.ndarray) -> None:
    padded = with_circle(chest, -2000).astype(float)
    smoothed = ((padded + np.roll(padded, 1, axis=0)) / 2).astype(np.int16)
    assert (smoothed < -1200).mean() > 0.05
    check_hu(smoothed)


@pytest.mark.parametrize(
    "region",
    [
        np.s_[9:15, 9:13, :],  # mediastinum
        np.s_[4:8, 8:12, 4:12],  # lung alone
        np.s_[10:14, :3, :],  # skin and air
        np.s_[:, :, 8:9],  # one slice
    ],
)
def test_small_crops_pass(chest: np.ndarray, region: tuple[slice, ...]) -> None:
    check_hu(chest[region])


def test_noise_of_air_below_the_scale_is_kept(chest: np.ndarray) -> None:
    noisy = chest.copy()
    noisy[0, 0, :3] = -1100
    same, repairs = clip_padding(noisy)
    assert same is noisy
    assert repairs == ()


def test_soft_tissue_without_any_air_passes() -> None:
    liver = np.random.default_rng(0).normal(60, 15, (8, 8, 8)).astype(np.int16)
    check_hu(liver)
    with pytest.raises(HUError, match="not rescaled"):
        check_hu((liver + 1024).astype(np.int16))
    with pytest.raises(HUError, match="rescaled twice"):
        check_hu((liver - 8192).astype(np.int16))


def test_metal_passes(chest: np.ndarray) -> None:
    metal = chest.copy()
    metal[10:12, 10:12, 5:8] = 3071
    check_hu(metal)


def test_statistics_sample_large_volumes_but_keep_the_exact_minimum() -> None:
    array = np.zeros((200, 200, 200), np.int16)
    array[1, 1, 1] = -999
    assert hu_statistics(array).minimum == -999


@pytest.mark.parametrize("slope", [1.0, 0.5, 2.0])
def test_rescale_rounds_and_holds_to_int16(slope: float) -> None:
    stored = np.arange(-30000, 30000, 7, dtype=np.int32).reshape(1, -1, 1)
    hu, repairs = to_hu(stored, slope, -1024.0, "x")
    expected = np.rint(stored * slope - 1024)
    np.testing.assert_array_equal(hu, np.clip(expected, -32768, 32767))
    assert bool(repairs) == bool((abs(expected) > 32768).any())


def test_int16_without_rescale_is_not_copied(chest: np.ndarray) -> None:
    assert to_hu(chest, 1.0, 0.0, "x")[0] is chest


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("d/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz", "fixed"),
        ("d/valid_preprocessed/valid_1/valid_1a/valid_1_a_1.nii.gz", "fixed"),
        ("d/train/train_1/train_1_a/train_1_a_1.nii.gz", "header"),
        ("scan_fixed.nii.gz", "header"),
    ],
)
def test_auto_goes_by_the_folder(path: str, expected: str) -> None:
    assert resolve_hu_source(path, "auto", None) == expected
