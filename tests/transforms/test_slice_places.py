"""Slices of a preset's grid in the stored file and in the patient."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.transforms import CTPreset, Volume, load_volume
from ct_vlm.transforms.orientation import affine_from_spacing
from ct_vlm.transforms.slice_places import SlicePlaces

PRESETS = [
    CTPreset("same"),
    CTPreset("resized", size=(7, 5, 5)),
    CTPreset("padded", spacing=(4.0, 1, 1), size=(24, 8, 8)),
    CTPreset("cut", spacing=(1.7, 1, 1), size=(9, 8, 8), crop_pad="end"),
    CTPreset("body", foreground_hu=-500, size=(8, 8, 8)),
    CTPreset("to_the_head", axcodes=("S", "L", "P"), size=(6, 6, 6)),
]


@pytest.mark.parametrize("up", [1, -1])
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_label_in_each_slice_says_where_it_went(tmp_path, preset, up):
    """The stored slice number, carried along as a label, must come out as the place says."""
    depth = 12
    stored = np.full((10, 11, depth), -1000, np.int16)
    stored[:, :, 3:9] = 40
    affine = np.diag([-1.0, -1.0, 3.0 * up, 1.0])
    affine[2, 3] = 100.0
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "scan.nii")
    volume = load_volume(tmp_path / "scan.nii", axcodes=preset.axcodes, check=False)
    places = SlicePlaces.of(volume, preset)
    numbers = np.broadcast_to(np.arange(depth) + 1, stored.shape)
    turned = np.moveaxis(numbers, 2, 0)[:, 0, 0]
    if (volume.affine[2, 0] > 0) != (up > 0):
        turned = turned[::-1]
    labels = np.broadcast_to(turned[:, None, None], volume.shape).copy()
    moved = preset.resample_labels(labels, volume)
    np.testing.assert_array_equal(places.stored, moved.max(axis=(1, 2)) - 1)
    inside = places.source >= 0
    # the middle of a voxel lies within the slice that is said to hold it
    centres = affine[2, 2] * places.stored[inside] + 100.0
    assert np.abs(places.position_mm[inside] - centres).max() <= 1.5 + 1e-6
    assert inside.any()
    np.testing.assert_allclose(np.diff(places.position_mm), np.diff(places.position_mm)[0])


def test_a_volume_without_a_file_is_numbered_as_its_array():
    volume = Volume(np.zeros((4, 3, 3), np.int16), (2, 1, 1), affine_from_spacing((2, 1, 1), "IPL"))
    places = SlicePlaces.of(volume, CTPreset("own"))
    assert places.stored.tolist() == places.source.tolist() == [0, 1, 2, 3]
    assert places.position_mm.tolist() == [0, -2, -4, -6]
