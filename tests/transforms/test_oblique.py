"""Oblique files: the general path against the slab path, against a known field, and with label maps."""

from __future__ import annotations

import itertools
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ct_vlm.errors import ConfigError, VolumeGeometryError
from ct_vlm.transforms import CTPreset, load_label_map, load_on_grid, load_volume
from ct_vlm.transforms.oblique import patient_grid, resample_affine

AXCODES = [codes for order in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*order)]


def turned(degrees: tuple[float, float, float], codes: str = "LPS") -> np.ndarray:
    """Return an affine of 4 x 4 x 5 mm voxels, turned about the three body axes."""
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(tuple(codes)), (1, 1, 1))
    affine = affine @ np.diag([4.0, 4.0, 5.0, 1.0])
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = (20.0, -30.0, 40.0)
    return affine


def places(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return the millimetres of every voxel."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def field(place: np.ndarray) -> np.ndarray:
    """Return HU that rise evenly to the right, to the front and to the head."""
    return 3.0 * place[..., 0] - 2.0 * place[..., 1] + 4.0 * place[..., 2] - 300


@pytest.mark.parametrize("codes", AXCODES, ids="".join)
@pytest.mark.parametrize("preset", [CTPreset("size", size=(9, 33, 13)), CTPreset("x", spacing=3.0, size=(31, 22, 40))])
def test_general_path_equals_the_slab_path(chest: np.ndarray, save: Any, codes: Any, preset: CTPreset) -> None:
    image = nib.Nifti1Image(chest, np.diag([-4.0, -4.0, 5.0, 1.0]))
    start = nib.orientations.io_orientation(image.affine)
    image = image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))
    stored = np.asarray(image.dataobj)
    slab = load_on_grid(save(stored, affine=image.affine), preset)
    general = resample_affine(stored, image.affine, slab.shape, slab.affine, fill=preset.pad_hu)
    assert np.abs(slab.array.astype(int) - general).max() <= 1


@pytest.mark.parametrize("codes", AXCODES, ids="".join)
def test_patient_grid_of_an_axis_aligned_volume_is_its_own(chest: np.ndarray, codes: Any) -> None:
    volume = nib.Nifti1Image(chest, np.diag([-4.0, -4.0, 5.0, 1.0]))
    shape, grid = patient_grid(chest.shape, volume.affine, codes)
    start = nib.orientations.io_orientation(volume.affine)
    moved = volume.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))
    assert shape == moved.shape
    np.testing.assert_allclose(grid, moved.affine, atol=1e-9)


@pytest.mark.parametrize("degrees", [(0, 0, 12), (10, -20, 30), (45, 0, 0), (1, 0, 0)])
@pytest.mark.parametrize("codes", ["LPS", "SRA"])
def test_voxels_of_an_oblique_file_go_where_their_millimetres_say(save: Any, degrees: Any, codes: str) -> None:
    affine = turned(degrees, codes)
    shape = (30, 26, 22)
    path = save(np.rint(field(places(shape, affine))).astype(np.int16), affine=affine)
    volume = load_volume(path, check=False, oblique="resample")
    np.testing.assert_allclose(np.abs(volume.affine[:3, :3]).max(axis=0), volume.spacing)
    assert np.count_nonzero(volume.affine[:3, :3]) == 3
    index = places(volume.shape, np.linalg.inv(affine) @ volume.affine)
    inside = ((index > 0) & (index < np.array(shape) - 1)).all(axis=-1)
    assert inside.sum() > 0.5 * np.prod(shape)
    expected = field(places(volume.shape, volume.affine))
    assert np.abs(volume.array - expected)[inside].max() <= 1.1
    outside = ((index < -0.6) | (index > np.array(shape) - 0.4)).any(axis=-1)
    assert (volume.array[outside] == -1024).all()
    assert any("resampled along the body's axes" in repair for repair in volume.provenance.repairs)


def test_labels_stay_on_their_organ(chest: np.ndarray, save: Any) -> None:
    affine = turned((8, -6, 15))
    labels = np.zeros(chest.shape, np.uint8)
    labels[6:14, 8:15, 5:11] = 3
    image = np.where(labels > 0, 500, -900).astype(np.int16)
    volume = load_volume(save(image, affine=affine), check=False, oblique="resample")
    found, place = load_label_map(save(labels, "labels.nii.gz", affine=affine), oblique="resample")
    np.testing.assert_allclose(place, volume.affine)
    np.testing.assert_array_equal(np.unique(found), [0, 3])
    assert ((found == 3) == (volume.array > -200)).mean() > 0.995
    assert (found == 3).sum() == pytest.approx((labels == 3).sum(), rel=0.05)


def test_grid_of_a_preset_holds_the_turned_volume(chest: np.ndarray, save: Any) -> None:
    path = save(chest, affine=turned((8, -6, 15)))
    preset = CTPreset("x", spacing=6.0, size=(20, 24, 28))
    found = load_on_grid(path, preset, oblique="resample")
    np.testing.assert_array_equal(found.array, preset.resample(load_volume(path, oblique="resample")))
    straight = load_on_grid(path, preset)
    assert np.abs(found.array.astype(int) - straight.array).max() > 100


def test_axis_aligned_files_are_not_touched(chest: np.ndarray, save: Any) -> None:
    path = save(chest)
    np.testing.assert_array_equal(load_volume(path, oblique="resample").array, load_volume(path).array)
    preset = CTPreset("x", size=(9, 33, 13))
    np.testing.assert_array_equal(
        load_on_grid(path, preset, oblique="resample").array, load_on_grid(path, preset).array
    )


def test_halfway_between_two_directions_has_no_nearest_one(chest: np.ndarray, save: Any) -> None:
    path = save(chest, affine=turned((0, 0, 45)))
    with pytest.raises(VolumeGeometryError, match=r'45 degrees off.*oblique="resample"'):
        load_volume(path)
    assert load_volume(path, oblique="resample").shape[0] == chest.shape[2]


def test_unknown_choice_and_absurd_grids(chest: np.ndarray, save: Any) -> None:
    path = save(chest)
    for function in (load_volume, load_label_map, lambda path, **more: load_on_grid(path, CTPreset("x"), **more)):
        with pytest.raises(ConfigError, match="oblique"):
            function(path, oblique="yes")
    with pytest.raises(VolumeGeometryError, match="axis-aligned grid"):
        patient_grid((30000, 30000, 1), turned((45, 45, 0)), ("I", "P", "L"))
