"""Weights of positives that a fit takes from its training labels."""

from __future__ import annotations

import math

import pytest
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from ct_vlm.datamodules import CTRateDataModule, SliceEmbeddingDataModule
from ct_vlm.datamodules.wrapping import WrappingDataModule
from ct_vlm.errors import ConfigError
from ct_vlm.tasks import OptimizerConfig, VisualAlignmentLightningModule, load_task

LABELS = [[1.0, 0.0], *[[0.0, math.nan]] * 3, *[[0.0, 0.0]] * 8, [math.nan, 1.0]]


class LabelWeightsData(LightningDataModule):
    """One batch, and labels of a larger training set."""

    def __init__(self, batch) -> None:
        super().__init__()
        self.batch = batch

    def training_labels(self):
        return LABELS

    def train_dataloader(self):
        return DataLoader([self.batch], batch_size=None)


@pytest.fixture
def task(ker_parts):
    def make(**options):
        parts = (ker_parts.encoder(), ker_parts.visual(), ker_parts.jepa())
        return VisualAlignmentLightningModule(*parts, OptimizerConfig(lr=1e-3), num_labels=2, **options)

    return make


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(max_steps=1, default_root_dir=folder, **quiet, **options)


def test_balanced_weights_are_those_of_the_training_labels_and_stay_with_the_checkpoint(
    task, ker_parts, tmp_path
) -> None:
    balanced, batch = task(pos_weight="balanced"), ker_parts.batch()
    assert balanced.to_config()["init_args"]["pos_weight"] == "balanced"
    with pytest.raises(ConfigError, match="not known yet"):
        balanced.compute_losses(balanced(batch), batch)
    run = trainer(tmp_path)
    run.fit(balanced, datamodule=LabelWeightsData(batch))
    # 11 negatives of one positive are cut at the paper's 10
    assert balanced.pos_weight == (10.0, 9.0)
    run.save_checkpoint(tmp_path / "one.ckpt")
    loaded = load_task(tmp_path / "one.ckpt").eval()
    assert loaded.pos_weight == (10.0, 9.0)
    given = task(pos_weight=[10.0, 9.0]).eval()
    given.load_state_dict(loaded.state_dict())
    assert loaded.compute_losses(loaded(batch), batch)["bce"] == given.compute_losses(given(batch), batch)["bce"]
    given.pos_weight = (1.0, 1.0)
    assert loaded.compute_losses(loaded(batch), batch)["bce"] != given.compute_losses(given(batch), batch)["bce"]


def test_losses_that_read_no_labels_need_no_weights(task, ker_parts) -> None:
    module, batch = task(pos_weight="balanced", losses={"info_nce": 1.0}), ker_parts.batch()
    assert module.compute_losses(module(batch), batch)["loss"] > 0


def test_data_without_labels_and_wrong_weights_are_named(task, ker_parts, tmp_path) -> None:
    loader = DataLoader([ker_parts.batch()], batch_size=None)
    with pytest.raises(ConfigError, match="training_labels"):
        trainer(tmp_path, enable_checkpointing=False).fit(task(pos_weight="balanced"), loader)
    with pytest.raises(ConfigError, match="'even'"):
        task(pos_weight="even")
    with pytest.raises(ConfigError, match="3 weights of positives for 2 labels"):
        task(pos_weight=[1.0, 2.0, 3.0])


def test_data_modules_tell_the_labels_of_every_training_sample(phantoms, tmp_path) -> None:
    data = CTRateDataModule(phantoms, val_fraction=0.2)
    wrapped = WrappingDataModule(SliceEmbeddingDataModule(data, tmp_path))
    with pytest.raises(ConfigError, match="no labels"):
        wrapped.training_labels()
    data.setup("fit")
    train = data.datasets["train"]
    assert 0 < len(train) < len(train) + len(data.datasets["val"])
    assert wrapped.training_labels() == [train[index]["labels"].tolist() for index in range(len(train))]
