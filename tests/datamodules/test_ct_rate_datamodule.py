"""`CTRateDataModule` with a real Trainer: splits, windows on transfer, and resuming mid-epoch."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import lightning
import pytest
import torch

from ct_vlm.datamodules import CTRateDataModule, class_balanced_weights
from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from pathlib import Path

SMALL = CTPreset("small", size=(4, 5, 6), windows=((-1000, -200), (-160, 240)))


class Recorder(lightning.LightningModule):
    """Learns nothing and writes down what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[str, ...]]] = []
        self.validated: list[str] = []
        self.images: list[torch.Tensor] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, tuple(batch["volume_id"])))
        self.images.append(batch["image"])
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated.extend(batch["volume_id"])

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated.extend(batch["volume_id"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
        assert batch["image"].is_floating_point()
        return batch["volume_id"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Save(lightning.Callback):
    """Saves at one step and then kills the run there or a step later."""

    def __init__(self, path: Path, step: int, *, later: int = 0, at_epoch_end: bool = False) -> None:
        self.path, self.step, self.later, self.at_epoch_end = path, step, later, at_epoch_end

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        if not self.at_epoch_end and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
        if self.path.exists() and trainer.global_step == self.step + self.later:
            raise KilledError

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        if self.at_epoch_end and trainer.global_step >= self.step:
            trainer.save_checkpoint(self.path)
            raise KilledError


class KilledError(Exception):
    """Stands for the end of the process."""


def trainer(tmp_path: Path, **arguments: Any) -> lightning.Trainer:
    return lightning.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 3,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
            "num_sanity_val_steps": 0,
            **arguments,
        }
    )


def module(tree: Any, **arguments: Any) -> CTRateDataModule:
    return CTRateDataModule(tree.root, **{"preset": SMALL, "batch_size": 2, "val_fraction": 0.2, **arguments})


def test_splits_by_patient(tree: Any) -> None:
    data = module(tree, val_fraction=0.34)
    data.setup()
    train, val = (set(data.datasets[name].patient_ids()) for name in ("train", "val"))
    assert len(val) == 2
    assert len(train) == 4
    assert not train & val
    assert set(data.datasets["test"].patient_ids()) == {"valid_1", "valid_2"}
    again = module(tree, val_fraction=0.34)
    again.setup("fit")
    assert set(again.datasets["val"].patient_ids()) == val
    assert "test" not in again.datasets


def test_fit_test_and_predict(tree: Any, tmp_path: Path) -> None:
    data, model = module(tree), Recorder()
    runner = trainer(tmp_path, max_epochs=2)
    runner.fit(model, datamodule=data)
    image = model.images[0]
    assert image.shape == (2, 2, 4, 5, 6)
    assert 0 <= image.min() <= image.max() <= 1
    validation = {sample.name.volume_id for sample in data.datasets["val"].samples}
    assert sorted(model.validated) == sorted([*validation, *validation])
    trained = {name for _, names in model.seen for name in names}
    assert trained == {sample.name.volume_id for sample in data.datasets["train"].samples}
    orders = [[names for epoch, names in model.seen if epoch == number] for number in (0, 1)]
    assert orders[0] != orders[1]
    model.validated.clear()
    runner.test(model, datamodule=data)
    assert model.validated == ["valid_1_a_1", "valid_2_a_1", "valid_2_a_2"]
    predicted = runner.predict(model, datamodule=data)
    assert predicted == [["valid_1_a_1", "valid_2_a_1"], ["valid_2_a_2"]]


def test_predict_needs_no_tables(tree: Any) -> None:
    for table in (
        "radiology_text_reports/validation_reports.csv",
        "multi_abnormality_labels/valid_predicted_labels.csv",
    ):
        (tree.base / table).unlink()
    data = module(tree)
    data.setup("predict")
    assert len(data.datasets["predict"]) == 3


def test_no_validation_part(tree: Any, tmp_path: Path) -> None:
    data, model = module(tree, val_fraction=0), Recorder()
    trainer(tmp_path, max_epochs=1).fit(model, datamodule=data)
    assert model.validated == []
    assert len(model.seen) == 4


def test_empty_part_is_named(tree: Any) -> None:
    data = module(tree)
    with pytest.raises(ConfigError, match="'train' part of the data was not set up"):
        data.train_dataloader()


def test_evaluation_reads_no_random_reconstruction(tree: Any) -> None:
    data = module(tree, recon_policy="random")
    data.setup()
    assert data.datasets["train"].recon_policy == "random"
    assert data.datasets["val"].recon_policy == data.datasets["test"].recon_policy == "first"


def test_augmentation_in_training_alone(tree: Any) -> None:
    data = module(tree, augment=lambda item, seed: {**item, "changed": True})
    data.setup()
    assert "changed" in data.datasets["train"][0]
    assert "changed" not in data.datasets["val"][0]
    assert "changed" not in data.datasets["test"][0]


def test_windows_are_applied_once(tree: Any) -> None:
    data = module(tree)
    hu = torch.full((1, 1, 2, 2, 2), 40, dtype=torch.int16)
    once = data.on_after_batch_transfer({"image": hu}, 0)
    assert once["image"].shape == (1, 2, 2, 2, 2)
    assert data.on_after_batch_transfer(once, 0) is once
    assert data.on_after_batch_transfer({"labels": hu}, 0) == {"labels": hu}


def test_preset_is_stored_as_config(tree: Any) -> None:
    data = module(tree, preset="uvlm")
    assert data.preset.to_config()["init_args"]["name"] == "uvlm"


STEPS_AN_EPOCH = 4  # eight training volumes in batches of two, without a validation part
CASES = {
    "first batch": {"step": 1},
    "middle of the first epoch": {"step": 2},
    "killed a step after saving": {"step": 2, "later": 1},
    "last batch of an epoch": {"step": 4},
    "middle of the second epoch": {"step": 6},
    "end of an epoch": {"step": 4, "at_epoch_end": True},
    "end of the second epoch": {"step": 8, "at_epoch_end": True},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("val_fraction", [0.0, 0.2])
def test_a_killed_run_goes_on_with_the_same_batches(tree: Any, tmp_path: Path, case: str, val_fraction: float) -> None:
    settings = {"recon_policy": "random", "batch_size": 1 if val_fraction else 2, "val_fraction": val_fraction}
    whole = Recorder()
    trainer(tmp_path).fit(whole, datamodule=module(tree, **settings))
    first = Recorder()
    checkpoint = tmp_path / "killed.ckpt"
    with pytest.raises(KilledError):
        trainer(tmp_path, callbacks=[Save(checkpoint, **CASES[case])]).fit(first, datamodule=module(tree, **settings))
    saved = torch.load(checkpoint, weights_only=True)["global_step"]
    second = Recorder()
    trainer(tmp_path).fit(second, datamodule=module(tree, **settings), ckpt_path=checkpoint)
    assert first.seen[:saved] + second.seen == whole.seen


@pytest.mark.slow
def test_a_killed_run_goes_on_with_workers(tree: Any, tmp_path: Path) -> None:
    settings = {"num_workers": 2, "val_fraction": 0.0}
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(tmp_path).fit(whole, datamodule=module(tree, **settings))
    with pytest.raises(KilledError):
        trainer(tmp_path, callbacks=[Save(tmp_path / "k.ckpt", 6)]).fit(first, datamodule=module(tree, **settings))
    trainer(tmp_path).fit(second, datamodule=module(tree, **settings), ckpt_path=tmp_path / "k.ckpt")
    assert first.seen + second.seen == whole.seen


def test_limited_epochs_resume_too(tree: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"limit_train_batches": 3}
    whole, first, second = Recorder(), Recorder(), Recorder()
    arguments = {"val_fraction": 0.0}
    trainer(tmp_path, **settings).fit(whole, datamodule=module(tree, **arguments))
    save = Save(tmp_path / "k.ckpt", 3, at_epoch_end=True)
    with pytest.raises(KilledError):
        trainer(tmp_path, callbacks=[save], **settings).fit(first, datamodule=module(tree, **arguments))
    trainer(tmp_path, **settings).fit(second, datamodule=module(tree, **arguments), ckpt_path=tmp_path / "k.ckpt")
    assert first.seen + second.seen == whole.seen
    assert len(whole.seen) == 9


def test_resuming_with_other_data_is_refused(tree: Any, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        trainer(tmp_path, callbacks=[Save(tmp_path / "k.ckpt", 2)]).fit(
            Recorder(), datamodule=module(tree, val_fraction=0.0)
        )
    with pytest.raises(CheckpointError, match="seed 0 -> 1"):
        trainer(tmp_path).fit(
            Recorder(), datamodule=module(tree, val_fraction=0.0, seed=1), ckpt_path=tmp_path / "k.ckpt"
        )


def test_overfitting_a_few_batches_repeats_them(tree: Any, tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path, overfit_batches=2, limit_val_batches=0).fit(model, datamodule=module(tree, val_fraction=0.0))
    epochs = [list(group) for _, group in itertools.groupby(model.seen, key=lambda entry: entry[0])]
    assert [names for _, names in epochs[0]] == [names for _, names in epochs[1]] == [names for _, names in epochs[2]]


def test_balance_draws_rare_labels_more_often(tree: Any) -> None:
    data = module(tree, val_fraction=0.0, seed=3, balance=1.0, recon_policy="first")
    data.setup("fit")
    loader = data.train_dataloader()
    dataset = data.datasets["train"]
    weights = class_balanced_weights([dataset.sample(i).labels for i in range(len(dataset))], 1.0)
    assert loader.sampler.weights.tolist() == pytest.approx(weights.tolist())
    without = module(tree, val_fraction=0.0, labels=False, balance=1.0)
    without.setup("fit")
    with pytest.raises(ConfigError, match="has none"):
        without.train_dataloader()
