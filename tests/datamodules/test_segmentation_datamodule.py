"""`SegmentationDataModule`: patches to train, whole volumes to evaluate."""

from __future__ import annotations

from typing import Any

import pytest

from ct_vlm.datamodules import SegmentationDataModule
from ct_vlm.transforms import CTPreset


@pytest.fixture
def data(tree: Any, tree_module: Any) -> SegmentationDataModule:
    names = [path.name.removesuffix(".nii.gz") for path in tree.base.rglob("*_1.nii.gz")]
    tree_module.add_segmentation(tree, names)
    module = SegmentationDataModule(
        tree.root,
        CTPreset("own", windows=((-1000, -200), (-160, 240))),
        patch_size=(4, 4, 6),
        samples_per_volume=2,
        val_fraction=0.2,
        eval_batch_size=1,
    )
    module.setup()
    return module


def test_training_batches_are_patches(data: SegmentationDataModule) -> None:
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 1, 4, 4, 6)
    assert batch["segmentation"].shape == (2, 4, 4, 6)
    assert data.on_after_batch_transfer(batch, 0)["image"].shape == (2, 2, 4, 4, 6)
    assert data.num_classes == 3


def test_evaluation_batches_are_whole_volumes(data: SegmentationDataModule) -> None:
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        batch = next(iter(loader))
        assert batch["image"].shape == (1, 1, 8, 10, 12)
        assert batch["segmentation"].shape == (1, 8, 10, 12)


def test_parts_share_no_patient(data: SegmentationDataModule) -> None:
    train, val, test = (set(data.datasets[name].patient_ids()) for name in ("train", "val", "test"))
    assert not train & val
    assert len(train | val) == 6
    assert test == {"valid_1", "valid_2"}
    assert len(data.train_dataloader().dataset) == 2 * len(data.datasets["train"].cases)
