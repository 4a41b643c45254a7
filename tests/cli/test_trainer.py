"""`ct-vlm fit | validate | test | predict` on parts defined here."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from lightning import LightningDataModule
from torch import Tensor, nn

from ct_vlm.cli import main
from ct_vlm.component import Component

if TYPE_CHECKING:
    from pathlib import Path


class ToyEncoder(Component):
    """An encoder of one layer."""

    def __init__(self, dim: int = 4, depths: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, 1)


class ToyTask(Component):
    """A task over a nested component."""

    def __init__(self, encoder: Component, lr: float = 0.1) -> None:
        super().__init__()
        if lr < 0:
            from ct_vlm.errors import ConfigError

            raise ConfigError(f"`lr` is {lr}.", "Pass a positive one.")
        self.encoder, self.lr = encoder, lr

    def training_step(self, batch: Tensor) -> Tensor:
        return self.encoder.layer(batch).pow(2).mean()

    def validation_step(self, batch: Tensor) -> None:
        self.log("val/loss", self.training_step(batch))

    def test_step(self, batch: Tensor) -> None:
        self.log("test/loss", self.training_step(batch))

    def predict_step(self, batch: Tensor) -> list[dict]:
        return [{"value": value} for value in self.encoder.layer(batch).flatten().tolist()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr)


class ToyData(LightningDataModule):
    """Random vectors."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.count = count

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(torch.randn(self.count, 4))

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def config(folder: Path, **changes: object) -> str:
    """Write a configuration that names its classes by their short names."""
    values = {
        "seed_everything": 1,
        "model": {
            "class_path": "ToyTask",
            "init_args": {"encoder": {"class_path": "ToyEncoder", "init_args": {"dim": 4}}, "lr": 0.5},
        },
        "data": {"class_path": "ToyData", "init_args": {"count": 2}},
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "default_root_dir": str(folder),
        },
        **changes,
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(values))  # JSON is YAML
    return str(file)


def test_fit_then_validate_test_and_predict_from_the_checkpoint(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = config(tmp_path)
    assert main(["fit", "-c", file]) == 0
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    assert next(tmp_path.rglob("version_0/config.yaml")).is_file()
    for command in ("validate", "test", "predict"):
        assert main([command, "-c", file, "--ckpt_path", str(checkpoint)]) == 0
    written = next(tmp_path.rglob("predictions.jsonl")).read_text().splitlines()
    assert [list(json.loads(line)) for line in written] == [["value"], ["value"]]


class DrawsNumbers(ToyTask):
    """A task that draws random numbers, as dropout does."""

    drawn: ClassVar[list[float]] = []

    def training_step(self, batch: Tensor) -> Tensor:
        self.drawn.append(float(torch.rand(())))
        return super().training_step(batch)

    def validation_step(self, batch: Tensor) -> None:
        self.log("val/loss", super().training_step(batch))


@pytest.mark.parametrize("named", [[], [{"class_path": "RNGState"}]])
def test_a_resumed_run_draws_what_an_unbroken_one_does(tmp_path: Path, monkeypatch, named: list) -> None:
    monkeypatch.chdir(tmp_path)
    saver = {"class_path": "ModelCheckpoint", "init_args": {"every_n_train_steps": 2, "save_top_k": -1}}
    file = config(
        tmp_path, model={"class_path": "DrawsNumbers", "init_args": {"encoder": {"class_path": "ToyEncoder"}}}
    )
    arguments = ["fit", "-c", file, "--data.count=5", f"--trainer.callbacks={json.dumps([saver, *named])}"]
    DrawsNumbers.drawn.clear()
    assert main(arguments) == 0
    unbroken = list(DrawsNumbers.drawn)
    DrawsNumbers.drawn.clear()
    assert main([*arguments, "--ckpt_path", str(next(tmp_path.rglob("*step=2.ckpt"))), "--seed_everything=7"]) == 0
    assert len(unbroken) == 5
    assert DrawsNumbers.drawn == unbroken[2:]


def test_classes_beside_the_configuration_are_found(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "parts_of_a_user.py").write_text(
        "from torch import nn\nfrom ct_vlm.component import Component\n\n\nclass Mine(Component):\n"
        "    def __init__(self, width: int = 4) -> None:\n"
        "        super().__init__()\n        self.layer = nn.Linear(width, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    # a console script, unlike `python -m`, does not put the current folder there
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in {"", str(tmp_path)}])
    arguments = ["fit", "-c", config(tmp_path), "--trainer.fast_dev_run=true"]
    assert main([*arguments, "--model.encoder=parts_of_a_user.Mine"]) == 0
    assert sys.path[-1] == str(tmp_path)
    sys.modules.pop("parts_of_a_user")


def test_other_commands_leave_the_import_path_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    assert main(["list", "presets"]) == 0
    assert sys.path == before


def test_an_augmentation_is_named_briefly(tmp_path: Path, monkeypatch) -> None:
    from ct_vlm.datamodules import CTRateDataModule
    from ct_vlm.errors import DatasetError

    seen = []

    def setup(self: CTRateDataModule, stage: str) -> None:
        seen.append(self.augment)
        raise DatasetError("There is no data here.")

    monkeypatch.setattr(CTRateDataModule, "setup", setup)
    data = {"class_path": "CTRateDataModule", "init_args": {"root": str(tmp_path), "preset": "phantom"}}
    arguments = ["fit", "-c", config(tmp_path, data=data), "--data.augment=FlipSafeAugmentation"]
    assert main([*arguments, "--data.augment.flip_probability=0.25"]) == 1
    assert seen[0].to_config()["init_args"]["flip_probability"] == 0.25


def test_options_override_the_file(tmp_path: Path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(ToyTask, "on_fit_start", lambda self: seen.append((self.lr, self.encoder.layer.in_features)))
    arguments = ["fit", "-c", config(tmp_path), "--model.lr=0.25", "--trainer.fast_dev_run=true"]
    assert main([*arguments, "--model.encoder.depths=[3]"]) == 0
    assert seen == [(0.25, 4)]


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, ["--model.encoder.dimm=4"], "`ToyEncoder` has no argument `dimm`.\nDid you mean `dim`?"),
        ({}, ["--model=ToyTaskk"], "no class `ToyTaskk`.\nDid you mean `ToyTask`?"),
        ({}, ["--data.count=x"], "`data.count`: "),
        ({"model": {"class_path": "ToyTask"}}, [], "needs `encoder`"),
        ({"modle": 3}, [], "no option `modle`.\nDid you mean `model`"),
        ({"trainer": {"max_epoch": 3}}, [], "no option `trainer.max_epoch`.\nDid you mean `trainer.max_epochs`"),
        ({}, ["--traner.max_epochs=3"], "no option `traner.max_epochs`.\nDid you mean `trainer.max_epochs`"),
    ],
)
def test_wrong_configurations_exit_2_with_a_suggestion(tmp_path: Path, capsys, changes, options, expected: str) -> None:
    assert main(["fit", "-c", config(tmp_path, **changes), *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error


def test_absent_file_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "absent.yaml"]) == 2
    assert "absent.yaml" in capsys.readouterr().err


def test_error_while_building_the_model_exits_1(tmp_path: Path, capsys) -> None:
    assert main(["fit", "-c", config(tmp_path), "--model.lr=-1"]) == 1
    assert "error: `lr` is -1.0.\nPass a positive one." in capsys.readouterr().err


def test_help_of_a_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) == 0
    assert "--ckpt_path" in capsys.readouterr().out
