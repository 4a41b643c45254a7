"""Masks from files."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.attributes import find_masks, measure_attributes, read_masks
from ct_vlm.attributes.grids import volume_grid
from ct_vlm.attributes.label_names import read_label_names
from ct_vlm.errors import DatasetError, VolumeReadError
from ct_vlm.transforms import load_label_map

AFFINE = np.diag([-1.0, -1.0, 5.0, 1.0])


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def labels():
    array = np.zeros((8, 6, 5), np.uint8)
    array[1:3, 2:4, 1:4], array[5:7, 2:4, 1:4], array[6, 3, 2] = 1, 2, 7
    return array


NAMES = {"right lung": 1, "left lung": 2, "lung nodule": 7, "aorta": 9}


def test_a_folder_and_a_label_map_give_the_same(tmp_path, labels):
    whole = read_masks(save(tmp_path / "labels.nii.gz", labels), NAMES)
    for name, value in NAMES.items():
        save(tmp_path / f"scan/{name.replace(' ', '_')}.nii.gz", (labels == value).astype(np.uint8))
    (tmp_path / "scan/notes.txt").write_text("no mask")
    parts = read_masks(tmp_path / "scan", kind="reference")
    assert "right_lung" in parts.names
    first, second = measure_attributes(whole), measure_attributes(parts)
    assert (first.organs, first.nodules) == (second.organs, second.nodules)
    assert first.volume_ml("lung", "right") == pytest.approx(12 * 0.005)
    assert (first.provenance.kind, second.provenance.kind) == ("pseudo", "reference")
    assert first.provenance.identity.startswith("sha256:")
    assert second.nodules.lesions == ()  # one voxel of 5 mm3 is too small
    assert "aorta" not in read_masks(tmp_path / "scan", only_known=True).names


def test_the_checksum_follows_the_content(tmp_path, labels):
    file = save(tmp_path / "labels.nii.gz", labels)
    before = read_masks(file, NAMES).provenance
    assert read_masks(file, NAMES).provenance == before
    labels[0, 0, 0] = 1
    save(file, labels)
    assert read_masks(file, NAMES).provenance != before


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PSR", "SAL"])
def test_files_in_any_orientation(tmp_path, labels, codes):
    base = nib.Nifti1Image(labels, AFFINE)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(AFFINE), nib.orientations.axcodes2ornt(tuple(codes))
    )
    nib.save(base, tmp_path / "a.nii.gz")
    nib.save(base.as_reoriented(turn), tmp_path / "b.nii.gz")
    names = {**NAMES, "nodule": 1}
    first, second = (measure_attributes(read_masks(tmp_path / f, names)) for f in ("a.nii.gz", "b.nii.gz"))
    assert first.organs == second.organs
    assert [x.diameter_mm for x in first.nodules.lesions] == [x.diameter_mm for x in second.nodules.lesions]
    assert volume_grid(tmp_path / "b.nii.gz")[0] == (5, 6, 8)
    assert np.allclose(volume_grid(tmp_path / "b.nii.gz")[1], load_label_map(tmp_path / "b.nii.gz")[1])
    if "S" in codes:  # both count from the feet
        assert first.nodules == second.nodules


def test_masks_on_another_grid_are_refused(tmp_path, labels):
    file = save(tmp_path / "labels.nii.gz", labels)
    shape, affine = volume_grid(file)
    with pytest.raises(DatasetError, match="grid"):
        read_masks(file, NAMES, grid=((6, 6, 8), affine))
    moved = affine.copy()
    moved[2, 3] += 5
    with pytest.raises(DatasetError, match=r"1\.0 voxels beside"):
        read_masks(file, NAMES, grid=(shape, moved))
    save(tmp_path / "scan/heart.nii.gz", labels)
    save(tmp_path / "scan/liver.nii.gz", labels[:-1])
    with pytest.raises(DatasetError, match=r"liver\.nii\.gz"):
        read_masks(tmp_path / "scan")


def test_missing_and_ambiguous_files(tmp_path, labels):
    file = save(tmp_path / "labels.nii.gz", labels)
    with pytest.raises(DatasetError, match="no names"):
        read_masks(file)
    with pytest.raises(DatasetError, match="no masks"):
        read_masks(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no NIfTI"):
        read_masks(tmp_path / "empty")
    save(tmp_path / "two/heart.nii.gz", labels)
    save(tmp_path / "two/heart.nii", labels)
    with pytest.raises(DatasetError, match="twice"):
        read_masks(tmp_path / "two")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/heart.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(VolumeReadError, match=r"heart\.nii\.gz"):
        read_masks(tmp_path / "bad")


def test_masks_of_a_volume_are_found_in_each_layout(tmp_path, labels):
    save(tmp_path / "b.nii.gz", labels)
    assert find_masks(tmp_path, "b").name == "b.nii.gz"
    (tmp_path / "seg_b").mkdir()
    assert find_masks(tmp_path, "b").name == "seg_b"
    (tmp_path / "b").mkdir()
    assert find_masks(tmp_path, "b").name == "b"
    for name in ("absent", "../b", ""):
        with pytest.raises(DatasetError, match=name or "no name"):
            find_masks(tmp_path, name)


def test_label_names_in_both_directions(tmp_path):
    file = tmp_path / "map.json"
    for content in ({"liver": 5, "lung": [1, 2]}, {"5": "liver", "1": "lung", "2": "lung"}):
        file.write_text(json.dumps(content))
        assert read_label_names(file) == {"liver": [5], "lung": [1, 2]}
    for content in ('["liver"]', "{", '{"liver": null}', '{"x": "liver"}', '{"liver": 1.5e400}'):
        file.write_text(content)
        with pytest.raises(DatasetError):
            read_label_names(file)
