"""Masks go where their volume goes: sides, axes, crops, and a real scan."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch

from ct_vlm.datasets import RadGenomeDataset
from ct_vlm.datasets.radgenome.masks import MaskReader, VolumeGrid
from ct_vlm.transforms import CTPreset, load_label_map, load_volume

if TYPE_CHECKING:
    from ct_vlm.phantoms import PhantomManifest

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "cip"
LOBES = {
    "right upper": "right lung upper lobe",
    "right lower": "right lung lower lobe",
    "left upper": "left lung upper lobe",
    "left lower": "left lung lower lobe",
    "heart": "heart",
}
PRESETS = {
    "canonical": CTPreset("canonical", size=(20, 22, 26)),
    "ct_clip axes": CTPreset("slp", axcodes=("S", "L", "P"), size=(20, 22, 26)),
    "sideways": CTPreset("alr", axcodes=("R", "A", "I"), size=(26, 22, 20)),
    "spacing and crop": CTPreset("crop", spacing=(14.0, 9.0, 9.0), size=(18, 30, 30)),
    "end of other axes": CTPreset("end", axcodes=("A", "S", "R"), spacing=9.0, size=(30, 30, 50), crop_pad="end"),
    "foreground": CTPreset("fore", axcodes=("S", "P", "R"), foreground_hu=-500, size=(16, 20, 24)),
    "area": CTPreset("area", size=(12, 14, 16), interpolation="area"),
}


def centres(masks: torch.Tensor, axcodes: tuple[str, str, str]) -> dict[str, np.ndarray]:
    """Return the mean place of each mask along head, back and left, whatever the axes."""
    result = {}
    for name, mask in zip(LOBES, masks, strict=True):
        place = np.argwhere(mask.numpy()).mean(0)
        by_axis = {}
        for code, value in zip(axcodes, place, strict=True):
            for positive, negative in ("SI", "PA", "LR"):
                if code in {positive, negative}:
                    by_axis[positive] = value if code == positive else -value
        result[name] = np.array([by_axis["S"], by_axis["P"], by_axis["L"]])
    return result


@pytest.mark.parametrize("method", ["nearest", "majority"])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_lobes_land_on_their_side_and_at_their_height(sound: PhantomManifest, preset: CTPreset, method: str) -> None:
    data = RadGenomeDataset(
        sound.root, regions=LOBES, mask_level="anatomy", preset=preset, missing_text="empty", mask_method=method
    )
    for index in range(2):
        item = data[index]
        assert item["region_masks"].shape[1:] == item["image"].shape[1:]
        assert item["region_present"].all()
        found = centres(item["region_masks"], preset.axcodes)
        for level in ("upper", "lower"):
            assert found[f"left {level}"][2] > found["heart"][2] > found[f"right {level}"][2]
        for side in ("left", "right"):
            assert found[f"{side} upper"][0] > found[f"{side} lower"][0]
            assert found[f"{side} upper"][1] < found[f"{side} lower"][1]
        # what the masks cover is lung in the image too
        image, lungs = item["image"][0], item["region_masks"][:4].any(0).bool()
        assert image[lungs].float().median() < -600
        assert image[item["region_masks"][4].bool()].float().median() > -50


@pytest.mark.parametrize("name", ["ct_clip axes", "sideways", "end of other axes", "foreground"])
def test_masks_equal_a_label_map_brought_along_with_its_volume(sound: PhantomManifest, name: str) -> None:
    preset = PRESETS[name]
    data = RadGenomeDataset(sound.root, preset=preset)
    item = data[0]
    volume = load_volume(data.samples[0].path, axcodes=preset.axcodes)
    for place, region in enumerate(data.regions):
        if item["region_mask_found"][place]:
            path = sound.root / f"dataset/train_region_mask/seg_train_1_a_1/{region}.nii.gz"
            labels, _ = load_label_map(path, axcodes=preset.axcodes)
            np.testing.assert_array_equal(item["region_masks"][place].numpy(), preset.resample_labels(labels, volume))


@pytest.mark.parametrize("axcodes", [("R", "A", "S"), ("P", "I", "R"), ("S", "L", "A")])
def test_a_mask_stored_with_other_axes_is_on_the_same_grid(
    copied: PhantomManifest, open_tree: Any, axcodes: tuple[str, str, str]
) -> None:
    before = open_tree(copied)[0]["region_masks"]
    path = copied.root / "dataset/train_region_mask/seg_train_1_a_1/lung.nii.gz"
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axcodes)
    )  # fmt: skip
    turned = image.as_reoriented(turn)
    assert nib.aff2axcodes(turned.affine) == axcodes
    nib.save(turned, path)
    assert torch.equal(open_tree(copied)[0]["region_masks"], before)


def test_any_one_value_marks_a_mask(copied: PhantomManifest, open_tree: Any) -> None:
    before = open_tree(copied)[0]["region_masks"]
    path = copied.root / "dataset/train_region_mask/seg_train_1_a_1/lung.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj).astype(np.float64) * 255, image.affine), path)
    assert torch.equal(open_tree(copied)[0]["region_masks"], before)


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real scans `../shared/data` is not here")


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """The real scan as a tree, with masks of left and right thirds."""
    base = tmp_path / "dataset"
    folder = base / "train_preprocessed/train_1/train_1a"
    folder.mkdir(parents=True)
    (folder / "train_1_a_1.nii.gz").write_bytes((DATA / "chest_ct64.nii.gz").read_bytes())
    labels = nib.load(DATA / "chest_ct64_cip_labels.nii.gz")
    regions = np.asanyarray(labels.dataobj) % 256
    masks = base / "train_anatomy_mask/seg_train_1_a_1"
    masks.mkdir(parents=True)
    sides = {"left": (9, 10, 11), "right": (12, 13, 14)}
    parts = {
        f"{side} {level}": [value]
        for side, values in sides.items()
        for level, value in zip(("upper", "middle", "lower"), values, strict=True)
    }
    for name, values in (*parts.items(), ("lungs", sides["left"] + sides["right"])):
        mask = np.isin(regions, values).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, labels.affine), masks / f"{name}.nii.gz")
    return tmp_path


@needs_data
@pytest.mark.parametrize("name", ["canonical", "ct_clip axes", "sideways"])
def test_thirds_of_real_lungs(real: Path, name: str) -> None:
    preset = PRESETS[name]
    names = [f"{side} {level}" for side in ("left", "right") for level in ("upper", "middle", "lower")]
    data = RadGenomeDataset(
        real, regions={n: n for n in names}, mask_level="anatomy", preset=preset, text=None
    )  # fmt: skip
    item = data[0]
    places = {}
    for region, mask in zip(names, item["region_masks"], strict=True):
        place = dict(zip(preset.axcodes, np.argwhere(mask.numpy()).mean(0), strict=True))
        left = place["L"] if "L" in place else -place["R"]
        places[region] = (place["S"] if "S" in place else -place["I"], left)
    for level in ("upper", "middle", "lower"):
        assert places[f"left {level}"][1] > places[f"right {level}"][1]
    for side in ("left", "right"):
        heights = [places[f"{side} {level}"][0] for level in ("upper", "middle", "lower")]
        assert all(first > second for first, second in pairwise(heights))


@needs_data
def test_real_lungs_keep_their_volume_when_resampled_from_another_grid(real: Path) -> None:
    path = real / "dataset/train_anatomy_mask/seg_train_1_a_1/lungs.nii.gz"
    image = nib.load(path)
    lungs = np.asanyarray(image.dataobj)
    fine = np.repeat(lungs, 2, axis=2)
    affine = image.affine @ np.diag([1, 1, 0.5, 1.0])
    affine[:3, 3] -= affine[:3, 2] / 2
    nib.save(nib.Nifti1Image(fine, affine), path)
    options: dict[str, Any] = {"regions": {"lungs": "lungs"}, "mask_level": "anatomy", "text": None}
    item = RadGenomeDataset(real, preset=CTPreset("own"), mask_mismatch="resample", **options)[0]
    litres = float(item["region_masks"].sum() * item["spacing"].prod()) / 1e6
    assert litres == pytest.approx(4.55, abs=0.02)
    np.testing.assert_array_equal(item["region_masks"][0].numpy(), lungs.transpose(2, 1, 0)[::-1])


def test_the_reader_says_what_was_not_found(sound: PhantomManifest) -> None:
    preset = CTPreset("own")
    volume = next((sound.root / "dataset").rglob("train_1_a_1.nii.gz"))
    mask, found = MaskReader(VolumeGrid.of(volume, preset, "fixed"), preset).union([])
    assert not found
    assert mask.shape == (24, 28, 32)
    assert not mask.any()
