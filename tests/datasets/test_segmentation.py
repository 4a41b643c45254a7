"""`SegmentationDataset`: layouts, real foreground sampling, and no validation patient in training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ct_vlm.datasets import EpochIndex, SegmentationDataset
from ct_vlm.datasets.patches import class_locations, cut_patch, draw_centre
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.transforms import CTPreset, FlipSafeAugmentation

if TYPE_CHECKING:
    from pathlib import Path

OWN = CTPreset("own")
NAMES = ["train_1_a_1", "train_2_a_1", "valid_1_a_1"]


@pytest.fixture
def root(tree: Any, tree_module: Any) -> Path:
    tree_module.add_segmentation(tree, NAMES)
    return tree.root


def test_images_come_from_the_ct_rate_tree(root: Path, tree_module: Any) -> None:
    data = SegmentationDataset(root, preset=OWN)
    assert [case.sample.name.volume_id for case in data.cases] == NAMES[:2]
    item = data[0]
    assert item["image"].shape == (1, 8, 10, 12)
    assert item["segmentation"].shape == (8, 10, 12)
    assert item["segmentation"].dtype == torch.uint8
    expected = tree_module.body(sum(map(ord, "train_1_a_1"))).transpose(2, 1, 0)[::-1]
    np.testing.assert_array_equal(item["image"][0].numpy(), expected)
    assert (item["image"][0][item["segmentation"] == 1] < -500).all()
    assert (item["segmentation"] == 2).sum() == 1
    assert data.num_classes == 3
    assert (item["patient_id"], item["study_id"]) == ("train_1", "train_1_a")


def test_folder_itself_and_other_image_root(root: Path, tmp_path: Path) -> None:
    assert len(SegmentationDataset(root / "segmentation", preset=OWN)) == 2
    moved = tmp_path / "labels"
    (root / "segmentation").rename(moved)
    assert len(SegmentationDataset(moved, images=root, preset=OWN)) == 2


def test_nnunet_images(tmp_path: Path, tree_module: Any) -> None:
    for case, seed in (("BDMAP_1", 1), ("BDMAP_2", 2)):
        hu = tree_module.body(seed)
        tree_module.save_nifti(hu, tmp_path / "imagesTr" / f"{case}_0000.nii.gz")
        tree_module.save_nifti((hu < -500).astype(np.uint8), tmp_path / "labelsTr" / f"{case}.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "air": 1}}))
    data = SegmentationDataset(tmp_path, preset=OWN)
    assert len(data) == 2
    assert data[1]["patient_id"] == "BDMAP_2"
    assert torch.equal(data[0]["segmentation"] == 1, data[0]["image"][0] < -500)


def test_v1_images_get_their_hu_from_the_metadata(new_tree: Any, tree_module: Any) -> None:
    new_tree.add("train_1_a_1", version="v1", intercept=-8192)
    new_tree.write()
    tree_module.add_segmentation(new_tree, ["train_1_a_1"])
    image = SegmentationDataset(new_tree.root, preset=OWN)[0]["image"]
    assert -1030 < image.min() < -900


def test_validation_patients_never_reach_training(root: Path) -> None:
    train = SegmentationDataset(root, preset=OWN)
    assert train.patient_ids() == ["train_1", "train_2"]
    assert train.report.validation_patients == ["valid_1_a_1"]
    with pytest.raises(DatasetError, match="validation split"):
        SegmentationDataset(root, preset=OWN, patients=["train_1", "valid_1"])
    assert SegmentationDataset(root, preset=OWN, split="valid").patient_ids() == ["valid_1"]
    assert len(SegmentationDataset(root, preset=OWN, split="all")) == 3


def test_labels_without_image_are_reported(root: Path, tree: Any) -> None:
    tree.path("train_2_a_1").unlink()
    data = SegmentationDataset(root, preset=OWN)
    assert len(data) == 1
    assert data.report.rows_without_file == ["train_2_a_1"]


def test_foreground_is_really_oversampled(root: Path) -> None:
    """One voxel in 960 is a spot: by chance a 3-voxel patch holds it in about 3 % of the draws."""
    common = {"preset": OWN, "patch_size": 3, "samples_per_volume": 100}
    shares = {}
    for fraction in (0.0, 1.0):
        data = SegmentationDataset(root, foreground_fraction=fraction, **common)
        assert len(data) == 200
        shares[fraction] = np.mean([(data[index]["segmentation"] == 2).any().item() for index in range(100)])
    assert shares[0.0] < 0.15
    assert shares[1.0] > 0.4  # half of the draws choose the spot among two classes


def test_patches_depend_on_seed_epoch_and_index_alone(root: Path) -> None:
    def patch(seed: int, epoch: int, index: int) -> torch.Tensor:
        data = SegmentationDataset(root, preset=OWN, patch_size=4, samples_per_volume=4, seed=seed)
        return data[EpochIndex(index, epoch)]["image"]

    assert torch.equal(patch(0, 1, 2), patch(0, 1, 2))
    others = [patch(1, 1, 2), patch(0, 2, 2), patch(0, 1, 3)]
    assert sum(not torch.equal(patch(0, 1, 2), other) for other in others) >= 2


def test_patch_of_image_and_labels_agree(root: Path) -> None:
    data = SegmentationDataset(root, preset=OWN, patch_size=(4, 6, 20), samples_per_volume=8)
    for index in range(16):
        item = data[index]
        assert item["image"].shape == (1, 4, 6, 20)
        assert (item["image"][0][item["segmentation"] == 1] < -500).all()
        assert (item["image"][0, :, :, :4] == OWN.pad_hu).all()


def test_cache_keeps_locations(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"preset": OWN, "patch_size": 3, "cache_dir": tmp_path / "cache"}
    first = SegmentationDataset(root, **arguments)[0]
    monkeypatch.setattr("ct_vlm.datasets.segmentation.load_volume", None)
    second = SegmentationDataset(root, **arguments)[0]
    assert torch.equal(first["image"], second["image"])


def test_subset_and_augmentation(root: Path) -> None:
    augment = FlipSafeAugmentation(probability=0, flip_probability=1)
    data = SegmentationDataset(root, preset=OWN, augment=augment)
    plain = data.subset(["train_2"], augment=None)
    assert plain.patient_ids() == ["train_2"]
    assert torch.equal(data[1]["image"], plain[0]["image"].flip(-1))


def test_index_out_of_range(root: Path) -> None:
    data = SegmentationDataset(root, preset=OWN)
    with pytest.raises(IndexError):
        data[2]
    assert len(list(data)) == 2


def test_label_grid_must_fit(root: Path, tree_module: Any) -> None:
    tree_module.save_nifti(np.zeros((3, 3, 3), np.uint8), root / "segmentation" / "labelsTr" / "train_1_a_1.nii.gz")
    with pytest.raises(DatasetError, match=r"grid \(3, 3, 3\)"):
        SegmentationDataset(root, preset=OWN)[0]


def test_ids_must_be_named(tree: Any, tree_module: Any) -> None:
    tree_module.add_segmentation(tree, NAMES, values={"background": 0, "lung": 1})
    with pytest.raises(DatasetError, match=r"ids \[2\]"):
        SegmentationDataset(tree.root, preset=OWN)[0]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"labels": {"a": [1, 2]}}', '{"labels": {"a": 1, "b": 1}}', '{"labels": {"a": -1}}', "{}"]
)
def test_malformed_description(root: Path, text: str) -> None:
    (root / "segmentation" / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        SegmentationDataset(root)


@pytest.mark.parametrize(
    "change", [{"patch_size": (1, 2)}, {"patch_size": 0}, {"foreground_fraction": 2}, {"split": "test"}]
)
def test_wrong_arguments(root: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SegmentationDataset(root, **change)


def test_absent_description(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"No `dataset\.json`"):
        SegmentationDataset(tmp_path)


def test_class_locations_list_every_class_and_only_it() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (6, 7, 8))
    found = class_locations(labels, per_class=20)
    flat = labels.ravel()
    assert found["location_class"].tolist() == [1, 2, 3]
    assert found["location_start"].tolist() == [0, 20, 40, 60]
    assert (flat[found["location_index"]] == np.repeat([1, 2, 3], 20)).all()
    again = class_locations(labels, per_class=20)
    np.testing.assert_array_equal(found["location_index"], again["location_index"])
    assert class_locations(np.zeros((2, 2, 2), int))["location_index"].size == 0


def test_background_alone_draws_anywhere() -> None:
    empty = class_locations(np.zeros((4, 4, 4), int))
    centres = {draw_centre((4, 4, 4), empty, 1.0, np.random.default_rng(seed)) for seed in range(20)}
    assert len(centres) > 10


@pytest.mark.parametrize("centre", [(0, 0, 0), (3, 4, 5), (1, 2, 2)])
def test_patches_stay_inside(centre: tuple[int, int, int]) -> None:
    array = np.arange(1, 4 * 5 * 6 + 1).reshape(4, 5, 6)
    patch = cut_patch(array, centre, (3, 3, 3), 0)
    assert (patch > 0).all()
    assert array[centre] in patch


@pytest.mark.parametrize("codec", ["zstd", "lz4", "uncompressed"])
def test_patches_from_the_cache_are_those_of_the_volume(root: Path, tmp_path: Path, codec: str) -> None:
    preset = CTPreset("large", size=(30, 40, 50))  # large enough to compress
    options = {"preset": preset, "patch_size": (7, 50, 9), "samples_per_volume": 3, "foreground_fraction": 0.5}
    plain = SegmentationDataset(root, **options)
    cached = SegmentationDataset(root, **options, cache_dir=tmp_path / "cache", cache_codec=codec)
    for _ in range(2):  # made, then read
        for index in range(len(plain)):
            for epoch in range(2):
                have, want = (items[EpochIndex(index, epoch)] for items in (cached, plain))
                assert have["image"].equal(want["image"])
                assert have["segmentation"].equal(want["segmentation"])
                assert have["image"].is_contiguous()
