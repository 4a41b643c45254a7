"""Segmenters: masks on the volume's grid, with provenance."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from ct_vlm.attributes import measure_attributes
from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.models import CallableSegmenter, FileSegmenter, ModelSegmenter, Segmenter, u_vlm_segmentation
from ct_vlm.models.mask_inputs import oriented
from ct_vlm.models.segmenters import restore_labels, volume_name, weights_digest
from ct_vlm.phantoms import make_phantom
from ct_vlm.transforms import CTPreset, Volume, load_volume
from ct_vlm.transforms.orientation import affine_from_spacing

NAMES = ("background", "heart", "liver")


@pytest.fixture
def scan(tmp_path):
    """A file x left, y back, z head, whose heart lies in one corner."""
    array = np.full((12, 10, 8), -900, np.int16)
    array[2:5, 3:6, 5:7] = 40
    affine = np.diag([-2.0, -2.0, 5.0, 1.0])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "train_1_a_1.nii.gz")
    heart = (array > 0).astype(np.uint8)
    folder = tmp_path / "masks" / "seg_train_1_a_1"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(heart, affine), folder / "heart.nii.gz")
    return load_volume(tmp_path / "train_1_a_1.nii.gz", check=False)


def test_files_by_the_volumes_name(scan, tmp_path):
    segmenter = FileSegmenter(tmp_path / "masks", kind="reference")
    assert isinstance(segmenter, Segmenter)
    assert volume_name(scan) == "train_1_a_1"
    masks = segmenter.segment(scan)
    assert (masks["heart"] == (scan.array > 0)).all()
    assert masks.provenance.kind == "reference"
    assert masks.provenance.identity.startswith("sha256:")
    assert measure_attributes(masks).volume_ml("heart") == pytest.approx(18 * 0.02)
    with pytest.raises(DatasetError, match="other"):
        segmenter.segment(scan, "other")


def test_files_on_another_grid_are_refused(scan, tmp_path):
    cut = Volume(scan.array[1:], scan.spacing, scan.affine, scan.provenance)
    with pytest.raises(DatasetError, match="grid"):
        FileSegmenter(tmp_path / "masks", kind="reference").segment(cut)


def test_callables_return_masks_or_label_maps(scan):
    def threshold(volume):
        return {"heart": volume.array > 0}

    masks = CallableSegmenter(threshold, identity="1.0").segment(scan)
    assert masks.provenance.to_dict() == {
        "kind": "pseudo",
        "source": threshold.__qualname__,
        "identity": "1.0",
    }
    labels = CallableSegmenter(lambda v: (v.array > 0) * 4, {"heart": 4}, source="mine").segment(scan)
    assert measure_attributes(labels).organs == measure_attributes(masks).organs
    with pytest.raises(ConfigError, match="no names"):
        CallableSegmenter(lambda v: v.array > 0).segment(scan)
    for wrong in (lambda v: {"heart": v.array[1:] > 0}, lambda v: v.array[1:]):
        with pytest.raises(ShapeError, match="shape"):
            CallableSegmenter(wrong, {"heart": 4}).segment(scan)


def test_slices_are_numbered_as_in_the_file(scan):
    big = CallableSegmenter(lambda v: {"nodule": v.array > 0}).segment(scan)
    assert measure_attributes(big).nodules.lesions[0].slice_index in (5, 6)


def test_a_volume_without_a_file_has_no_name(tmp_path):
    volume = Volume(np.zeros((2, 2, 2), np.int16), (1, 1, 1), np.eye(4))
    with pytest.raises(ConfigError, match="volume_id"):
        FileSegmenter(tmp_path, kind="pseudo").segment(volume)


@pytest.mark.parametrize("mode", ["center", "end"])
@pytest.mark.parametrize("foreground", [None, -500])
def test_labels_come_back_to_the_voxels_they_came_from(mode, foreground):
    phantom = make_phantom(3, (20, 40, 44), labels=[])
    affine = affine_from_spacing(phantom.spacing, "IPL")
    volume = Volume(phantom.volume, phantom.spacing, affine)
    finer = CTPreset("finer", spacing=tuple(s / 2 for s in phantom.spacing), foreground_hu=foreground)
    there = finer.resample_labels(phantom.segmentation, volume)
    back = restore_labels(there, volume, finer)
    box = finer.plan(volume).box or (slice(None),) * 3
    assert (back[box] == phantom.segmentation[box]).all()
    cropped = CTPreset("crop", spacing=phantom.spacing, size=(10, 60, 30), crop_pad=mode)
    back = restore_labels(cropped.resample_labels(phantom.segmentation, volume), volume, cropped)
    kept = back > 0
    assert (back[kept] == phantom.segmentation[kept]).all()
    rows = slice(5, 15) if mode == "center" else slice(0, 10)
    columns = slice(7, 37) if mode == "center" else slice(0, 30)
    assert (back[rows, :, columns] == phantom.segmentation[rows, :, columns]).all()
    assert kept.sum() == (phantom.segmentation[rows, :, columns] > 0).sum()


class Threshold(torch.nn.Module):
    """Stands in for a trained network: class 1 where the window is open."""

    num_classes = 2

    def __init__(self):
        super().__init__()
        self.decoder = torch.nn.Identity()
        self.decoder.num_classes = 2
        self.scale = torch.nn.Parameter(torch.ones(1))

    def segment(self, image, roi_size=None, *, overlap=0.5):
        assert not self.training
        return (image[:, 0] * self.scale > 0.5).long()


def test_a_model_that_is_right_gives_the_masks_of_the_volume(scan):
    preset = CTPreset("padded", spacing=(5.0, 2.0, 2.0), size=(12, 8, 14), windows=((-900, 40),))
    model = Threshold().train()
    masks = ModelSegmenter(model, ("background", "heart"), preset, source="stage1").segment(scan)
    assert (masks["heart"] == (scan.array > 0)).all()
    assert model.training
    assert masks.provenance.to_dict() == {"kind": "pseudo", "source": "stage1", "identity": weights_digest(model)}
    with torch.no_grad():
        model.scale.mul_(2)
    assert weights_digest(model) != masks.provenance.identity


def test_our_network_with_sliding_windows(scan):
    torch.manual_seed(0)
    model = u_vlm_segmentation("tiny", 3)
    preset = CTPreset("small", size=(16, 32, 32), windows=((-1000, 200), (-160, 240), (-500, 500)))
    whole = ModelSegmenter(model, NAMES, preset).segment(scan)
    parts = ModelSegmenter(model, NAMES, preset, roi_size=(8, 16, 16), overlap=0.25).segment(scan)
    assert whole.shape == parts.shape == scan.shape
    assert whole.names == ("heart", "liver")
    with pytest.raises(ConfigError, match="3 classes"):
        ModelSegmenter(model, NAMES[:2], preset)


def test_volumes_may_lie_in_any_orientation(scan, tmp_path):
    files = FileSegmenter(tmp_path / "masks", kind="reference")
    turned = oriented(scan, ("S", "L", "P"))
    np.testing.assert_array_equal(files.segment(turned)["heart"], files.segment(scan)["heart"])
    for axcodes in (("I", "P", "L"), ("S", "L", "P")):
        preset = CTPreset("own", axcodes=axcodes, windows=((-900, 40),))
        segmenter = ModelSegmenter(Threshold(), ("background", "heart"), preset)
        for volume in (scan, turned):
            np.testing.assert_array_equal(segmenter.segment(volume)["heart"], scan.array > 0)


def test_only_the_files_that_are_named_are_read(scan, tmp_path):
    folder = tmp_path / "masks" / "seg_train_1_a_1"
    (folder / "liver.nii.gz").write_text("no volume")
    assert FileSegmenter(tmp_path / "masks", kind="pseudo", only=["HEART"]).segment(scan).names == ("heart",)
    with pytest.raises(DatasetError, match="but 2 others"):
        FileSegmenter(tmp_path / "masks", kind="pseudo", only=["lung"]).segment(scan)
