"""Norm calibration at the start of epochs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from ct_vlm.callbacks import NormCalibration
from ct_vlm.errors import ConfigError
from ct_vlm.modules import NormCalibrator


class CountsCalibrations(LightningModule):
    """Tokens that grow from epoch to epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.other = torch.nn.Parameter(torch.ones(()))
        self.calibrator = NormCalibrator(4, target_norm=1.0)
        self.seen: list[tuple[int, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        scaled = self.calibrator((1 + self.current_epoch) * batch)
        self.seen.append((self.current_epoch, scaled.norm(dim=-1).mean().item()))
        return self.other * scaled.square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


def fit(task: CountsCalibrations, **options: Any) -> list[float]:
    """Train for three epochs of two batches and return the mean length in each step."""
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[NormCalibration(**options)],
    )
    trainer.fit(task, DataLoader(torch.full((4, 4), 0.5), batch_size=2))
    return [round(norm, 4) for _, norm in task.seen]


def test_first_batch_of_every_epoch_calibrates() -> None:
    assert fit(CountsCalibrations()) == [1.0] * 6


def test_every_second_epoch() -> None:
    assert fit(CountsCalibrations(), every_n_epochs=2) == [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]


def test_a_frozen_scale_stays() -> None:
    task = CountsCalibrations()
    task.calibrator.requires_grad_(False)
    assert fit(task) == [0.5, 0.5, 1.0, 1.0, 1.5, 1.5]


def test_a_run_that_goes_on_within_an_epoch_keeps_its_scale() -> None:
    first, again, task = NormCalibration(), NormCalibration(), CountsCalibrations()
    first.on_train_epoch_start(SimpleNamespace(current_epoch=3), task)
    again.load_state_dict(first.state_dict())
    task.calibrator._pending = False
    again.on_train_epoch_start(SimpleNamespace(current_epoch=3), task)
    assert not task.calibrator._pending
    again.on_train_epoch_start(SimpleNamespace(current_epoch=4), task)
    assert task.calibrator._pending


def test_a_period_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        NormCalibration(0)
