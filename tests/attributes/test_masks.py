"""Sets of masks: kinds of input, orientation, slice numbers, provenance."""

from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.attributes import MaskProvenance, MaskSet
from ct_vlm.attributes.names import find_structure
from ct_vlm.errors import ConfigError, ShapeError, VolumeGeometryError


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("lung_upper_lobe_right", "right upper lobe"),
        ("right middle lobe", "right middle lobe"),
        ("lung_middle_lobe", "right middle lobe"),
        ("Left Lung", "left lung"),
        ("lungs", "lung"),
        ("kidneys", "kidney"),
        ("kidney_left", "left kidney"),
        ("kidney_cyst_right", "right kidney cyst"),
        ("Lung nodule", "lung nodule"),
        ("lung_nodules", "lung nodule"),
        ("Pleural effusion", "pleural effusion"),
        ("pleural-effusion", "pleural effusion"),
        ("pericardial effusion", None),
        ("left middle lobe", None),
        ("liver cyst", None),
        ("heart_atrium_left", None),
        ("", None),
    ],
)
def test_names_in_usual_spellings(name, structure):
    assert find_structure(name) == structure


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32])
def test_masks_of_any_type(dtype):
    mask = np.zeros((2, 3, 4), dtype)
    mask[0, 1, 2] = 1 if dtype is bool else 7
    masks = MaskSet({"heart": mask}, spacing=(1, 1, 1))
    assert masks.structure("heart").dtype == bool
    assert masks["heart"].sum() == 1


def test_probabilities_and_nan_are_refused():
    for value in (0.4, np.nan):
        with pytest.raises(ShapeError, match="threshold"):
            MaskSet({"heart": np.full((1, 1, 1), value)}, spacing=(1, 1, 1))


def test_masks_must_share_one_grid_with_three_axes():
    with pytest.raises(ShapeError, match="one shape"):
        MaskSet({"a": np.zeros((1, 2, 3), bool), "b": np.zeros((1, 2, 4), bool)}, spacing=(1, 1, 1))
    with pytest.raises(ShapeError, match="three axes"):
        MaskSet({"a": np.zeros((2, 3), bool)}, spacing=(1, 1, 1))
    with pytest.raises(ShapeError, match="no mask"):
        MaskSet({}, spacing=(1, 1, 1))


def test_millimetres_are_needed():
    with pytest.raises(ShapeError, match="either `affine` or `spacing`"):
        MaskSet({"a": np.zeros((1, 1, 1), bool)})
    with pytest.raises(VolumeGeometryError, match="spacing"):
        MaskSet({"a": np.zeros((1, 1, 1), bool)}, spacing=(1, 0, 1))


def test_several_masks_and_values_of_one_structure_are_joined():
    labels = np.arange(6).reshape(1, 1, 6)
    names = {"lung_upper_lobe_left": [1, 2], "left upper lobe": 4, "aorta": 5}
    masks = MaskSet.from_label_map(labels, names, spacing=(1, 1, 1))
    assert np.flatnonzero(masks.structure("left upper lobe")).tolist() == [1, 2, 4]
    assert masks.structure("heart") is None
    assert masks.names == ("lung_upper_lobe_left", "left upper lobe", "aorta")


def test_slices_are_numbered_as_in_the_file():
    array = np.zeros((4, 5, 6), bool)
    array[1, 2, 5] = True  # x to the left, y to the back, z to the head
    masks = MaskSet({"heart": array}, spacing=(0.8, 0.7, 2.0), axcodes="LPS")
    assert masks.shape == (6, 5, 4)
    assert masks.spacing == (2.0, 0.7, 0.8)
    (d,), (h,), (w,) = np.nonzero(masks["heart"])
    assert (d, h, w) == (0, 2, 1)
    assert masks.slice_number(d) == 5
    assert MaskSet({"heart": array}, spacing=(1, 1, 1)).slice_number(3) == 3


def test_voxels_of_a_tilted_gantry_keep_their_volume():
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[1, 2] = 0.5  # each slice a bit further back: a shear, so the volume stays 2 mm3
    masks = MaskSet({"heart": np.ones((3, 3, 3), bool)}, affine=affine)
    assert masks.voxel_ml == pytest.approx(0.002)


def test_provenance_is_one_of_two_kinds():
    assert MaskProvenance.from_dict(MaskProvenance("reference", "readers").to_dict()).kind == "reference"
    with pytest.raises(ConfigError, match="pseudo"):
        MaskProvenance("gold", "readers")
