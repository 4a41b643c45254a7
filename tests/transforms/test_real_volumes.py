"""Real CTs: laterality, the HU guard and resampling, where the files are present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ct_vlm.errors import HUError
from ct_vlm.transforms import check_hu, get_preset, load_label_map, load_volume

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CHEST = DATA / "cip" / "chest_ct64.nii.gz"
LABELS = DATA / "cip" / "chest_ct64_cip_labels.nii.gz"
pytestmark = pytest.mark.skipif(not CHEST.is_file(), reason=f"needs the real CTs of `{DATA}`")

SCANS = ["cip/chest_ct64", "totalsegmentator/example_ct_sm", "totalsegmentator/aorta_report/ct_cropped"]


@pytest.mark.parametrize("name", SCANS)
def test_real_scans_pass_the_guard_without_repairs(name: str) -> None:
    volume = load_volume(DATA / f"{name}.nii.gz")
    assert volume.provenance.repairs == ()
    assert volume.array.min() < -900


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("shift", [-1024, 1024, -8192, 8192])
def test_wrongly_scaled_real_scans_do_not(name: str, shift: int) -> None:
    array = load_volume(DATA / f"{name}.nii.gz").array
    with pytest.raises(HUError, match="rescaled"):
        check_hu((array.astype(int) + shift).astype(np.int16))


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("factor", [2, 4, -1])
def test_wrong_slopes_and_signs_of_real_scans_are_refused(name: str, factor: int) -> None:
    array = load_volume(DATA / f"{name}.nii.gz").array
    with pytest.raises(HUError, match="wrong slope" if factor > 0 else "sign inverted"):
        check_hu((array.astype(int) * factor).astype(np.int16))


def test_soft_tissue_of_a_real_abdomen_rescaled_twice_is_refused() -> None:
    crop = load_volume(DATA / "totalsegmentator" / "example_ct_sm.nii.gz").array[-10:, 30:60, 40:70]
    check_hu(crop)
    with pytest.raises(HUError, match="rescaled twice"):
        check_hu(crop - np.int16(1024))


@pytest.mark.parametrize("name", SCANS)
def test_crops_and_padding_of_real_scans_pass(name: str) -> None:
    array = load_volume(DATA / f"{name}.nii.gz").array
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape[1:]), indexing="ij")
    for fill in (-2000, -3024, -8192):
        padded = array.copy()
        padded[:, rows**2 + columns**2 > 1] = fill
        check_hu(padded)
        check_hu(ndimage.zoom(padded.astype(np.float32), 0.7, order=1).astype(np.int16))  # blurred edges
    blocks = [np.array_split(np.arange(n), 3) for n in array.shape]
    for d in blocks[0]:
        for h in blocks[1]:
            for w in blocks[2]:
                check_hu(array[np.ix_(d, h, w)])


def test_real_lungs_alone_pass() -> None:
    array = load_volume(CHEST).array
    lung = load_label_map(DATA / "cip" / "chest_ct64_lung.nii.gz")[0] > 0
    check_hu(array[lung].reshape(1, 1, -1))
    for fill in (-1024, -2000, -8192):
        check_hu(np.where(lung, array, np.int16(fill)))


def test_left_lung_lies_at_larger_w_and_apices_at_small_d() -> None:
    regions = load_label_map(LABELS)[0] & 255
    volume = load_volume(CHEST)
    assert regions.shape == volume.shape
    left, right = (np.argwhere(np.isin(regions, ids)).mean(axis=0) for ids in ((9, 10, 11), (12, 13, 14)))
    assert left[2] > right[2] + 20
    for upper, middle, lower in ((9, 10, 11), (12, 13, 14)):
        depths = [np.argwhere(regions == region).mean(axis=0)[0] for region in (upper, middle, lower)]
        assert depths == sorted(depths)
    assert np.median(volume.array[np.isin(regions, (9, 10, 11))]) < -700


def test_spine_lies_at_larger_h() -> None:
    array = load_volume(CHEST).array
    bone = np.argwhere(array[:, :, 24:40] > 250)
    assert bone[:, 1].mean() > array.shape[1] / 2


def test_ct_clip_axes_put_left_last_to_first() -> None:
    preset = get_preset("ct_clip")
    regions = load_label_map(LABELS, axcodes=preset.axcodes)[0] & 255
    left, right = (np.argwhere(np.isin(regions, ids)).mean(axis=0) for ids in ((9, 10, 11), (12, 13, 14)))
    assert left[1] > right[1] + 20  # the second axis is x
    upper, lower = (np.argwhere(regions == region).mean(axis=0)[0] for region in (9, 11))
    assert upper > lower  # the first axis runs to the head


def test_resampling_keeps_lung_volume() -> None:
    volume = load_volume(CHEST)
    preset = get_preset("phantom")
    small = preset.resample(volume)
    litres = [
        ndimage.binary_erosion(array < -500, iterations=2).sum() * np.prod(spacing) / 1e6
        for array, spacing in ((volume.array, volume.spacing), (small, preset.resampled_spacing(volume)))
    ]
    assert litres[1] == pytest.approx(litres[0], rel=0.1)
