"""Slab views from folders to windowed batches: patients apart, labels on request."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.datamodules import SlabDataModule
from ct_vlm.errors import ConfigError
from ct_vlm.phantoms import write_ct_rate
from ct_vlm.transforms import CTPreset, SlabViews

VIEWS = SlabViews(16, 8, num_local=3, slab_mm=30.0)
PRESET = CTPreset("slabs", size=(None, 32, 32), windows=((-997.0, 888.0),), norm="affine", offset=142.39, scale=360.97)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_ct_rate(folder, 8, shape=(8, 32, 32), seed=2, valid_fraction=0.25, workers=0, progress=False)
    return folder


def module(root, **settings) -> SlabDataModule:
    data = SlabDataModule(root, PRESET, views=VIEWS, val_fraction=0.4, batch_size=3, **settings)
    data.setup("fit")
    return data


def first(loader) -> dict:
    return next(iter(loader))


def test_batches_are_windowed_views(root):
    data = module(root, slabs_per_volume=2)
    raw = first(data.train_dataloader())
    assert raw["global_views"].dtype == torch.int16
    batch = data.on_after_batch_transfer(raw, 0)
    assert (batch["global_views"].shape, batch["local_views"].shape) == ((3, 1, 2, 16, 16), (3, 1, 3, 8, 8))
    expected = (raw["global_views"].float().clamp(-997, 888) + 142.39) / 360.97
    torch.testing.assert_close(batch["global_views"], expected)
    assert data.on_after_batch_transfer(batch, 0)["global_views"] is batch["global_views"]
    assert not {"report", "labels", "global_labels"} & set(batch)


def test_training_and_validation_share_no_patient_and_no_test_patient(root):
    data = module(root)
    train, val = (set(data.datasets[name].source.patient_ids()) for name in ("train", "val"))
    assert train
    assert val
    assert not train & val
    assert not any(patient.startswith("valid") for patient in train | val)
    with pytest.raises(ConfigError, match="'test'"):
        data.test_dataloader()


def test_validation_views_do_not_change_with_the_epoch(root):
    data = module(root)
    loaders = [data.val_dataloader() for _ in range(2)]
    loaders[1].set_epoch(5)
    assert torch.equal(*(first(loader)["local_views"] for loader in loaders))
    loaders = [data.train_dataloader() for _ in range(2)]
    loaders[1].set_epoch(5)
    assert not torch.equal(*(first(loader)["local_views"] for loader in loaders))


def test_labels_of_views(root):
    data = module(root, labels_root=root, view_labels=True)
    assert data.num_labels == 34
    batch = first(data.train_dataloader())
    assert batch["global_labels"].shape == (3, 2, 34)
    assert batch["local_labels"].shape == (3, 3, 34)
    # a crop of the chest shows organs
    assert batch["global_labels"][..., :16].sum() > 0


def test_label_maps_can_guide_without_being_targets(root):
    data = module(root, labels_root=root)
    assert data.num_labels == 0
    assert "global_labels" not in first(data.train_dataloader())
