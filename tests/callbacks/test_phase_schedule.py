from __future__ import annotations

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from ct_vlm.callbacks import CollapseMonitor, FreezeAfterEpoch, ReduceLROnMetric
from ct_vlm.errors import ConfigError

F1 = [0.1, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.4]
RATES = [0.1, 0.1, 0.1, 0.1, 0.1, 0.05]  # of looks in epochs 0, 2 and 5, of which the last is no better


class HalvedSteps(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.lora_part = nn.Linear(3, 1)
        self.rest = nn.Linear(3, 1)
        self.seen: list[torch.Tensor] = []
        self.rates: list[float] = []

    def training_step(self, batch, batch_idx):
        return (self.lora_part(batch) + self.rest(batch) - 1).square().mean()

    def on_train_epoch_end(self) -> None:
        self.seen.append(self.lora_part.weight.detach().clone())
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def validation_step(self, batch, batch_idx) -> None:
        self.log("val/gen_f1", F1[self.current_epoch])

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class LookedAtSteps(HalvedSteps):
    """Leaves its metric to a callback."""

    def generate_batch(self, batch, **generation):
        return []

    def validation_step(self, batch, batch_idx) -> None:
        self.log("val/loss", 1.0)


class RhythmicF1(Callback):
    """Logs a metric, better each time, in every second epoch."""

    every_n_epochs = 2

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        if trainer.current_epoch % 2 and not trainer.sanity_checking:
            pl_module.log("val/gen_f1", 0.1 * trainer.current_epoch)


class KnownScores(CollapseMonitor):
    """Finds the same scores in every look after the first."""

    def _scores(self, trainer, pl_module):
        return {"gen_f1": 0.1 if trainer.current_epoch == 0 else 0.2}


def fit(task, folder, *callbacks, epochs, ckpt_path=None):
    loader = DataLoader(torch.randn(4, 3), batch_size=2)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    host = Trainer(max_epochs=epochs, callbacks=list(callbacks), default_root_dir=folder, accelerator="cpu", **options)
    host.fit(task, loader, loader, ckpt_path=ckpt_path)
    return host


def test_parts_stop_after_their_epochs_and_the_rest_goes_on(tmp_path) -> None:
    task = HalvedSteps()
    rest = task.rest.weight.detach().clone()
    fit(task, tmp_path, FreezeAfterEpoch("lora", 2), epochs=4)
    assert not torch.equal(task.seen[0], task.seen[1])
    assert torch.equal(task.seen[1], task.seen[2])
    assert torch.equal(task.seen[1], task.seen[3])
    assert not torch.equal(rest, task.rest.weight)


def test_rates_fall_when_the_metric_stalls_and_a_restart_goes_on_alike(tmp_path) -> None:
    whole = HalvedSteps()
    fit(whole, tmp_path, ReduceLROnMetric(patience=1), epochs=8)
    # best in epoch 1; one validation without a new best is tolerated
    assert whole.rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.025])
    saver = ModelCheckpoint(tmp_path, filename="at", save_top_k=-1, every_n_epochs=5, save_on_train_epoch_end=True)
    fit(HalvedSteps(), tmp_path, ReduceLROnMetric(patience=1), saver, epochs=5)
    resumed = HalvedSteps()
    fit(resumed, tmp_path, ReduceLROnMetric(patience=1), epochs=8, ckpt_path=tmp_path / "at.ckpt")
    assert resumed.rates == pytest.approx(whole.rates[5:])


def test_wrong_settings_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="factor"):
        ReduceLROnMetric(factor=1.0)
    with pytest.raises(ConfigError, match=r"1 validation.* logged no `val/f1`"):
        fit(HalvedSteps(), tmp_path, ReduceLROnMetric("val/f1"), epochs=1)
    with pytest.raises(ConfigError, match="has a name like"):
        fit(HalvedSteps(), tmp_path, FreezeAfterEpoch("qkv", 2), epochs=1)
    with pytest.raises(ConfigError, match="regular expression"):
        FreezeAfterEpoch("(", 2)


def test_rates_fall_no_further_than_asked() -> None:
    rule = ReduceLROnMetric(patience=0, min_factor=0.2, mode="min")
    assert [rule.seen(value) for value in (1.0, 2.0, 2.0, 2.0, 2.0)] == [False, True, True, False, False]


def test_only_new_values_count(tmp_path) -> None:
    task = LookedAtSteps()
    fit(task, tmp_path, RhythmicF1(), ReduceLROnMetric(patience=0), epochs=6)
    assert task.rates == pytest.approx([0.1] * 6)


def test_a_metric_with_a_rhythm_is_waited_for_once_around(tmp_path) -> None:
    task = LookedAtSteps()
    with pytest.raises(ConfigError, match=r"2 validation.* logged no `val/f1`"):
        fit(task, tmp_path, RhythmicF1(), ReduceLROnMetric("val/f1"), epochs=6)
    assert len(task.rates) == 1


def test_looks_with_a_rhythm_are_monitored_alike_before_and_after_a_restart(tmp_path) -> None:
    def parts(folder):
        best = ModelCheckpoint(folder, filename="best", monitor="val/gen_f1", mode="max")
        return KnownScores(every_n_epochs=3), ReduceLROnMetric(patience=0), best

    whole, (monitor, _, best) = LookedAtSteps(), parts(tmp_path / "whole")
    fit(whole, tmp_path, monitor, ReduceLROnMetric(patience=0), best, epochs=6)
    assert [point.epoch for point in monitor.history] == [0, 2, 5]
    assert whole.rates == pytest.approx(RATES)
    assert best.best_model_score.item() == pytest.approx(0.2)
    saver = ModelCheckpoint(tmp_path, filename="at", save_top_k=-1, every_n_epochs=4, save_on_train_epoch_end=True)
    fit(LookedAtSteps(), tmp_path, *parts(tmp_path / "cut"), saver, epochs=4)
    resumed, (monitor, rule, best) = LookedAtSteps(), parts(tmp_path / "cut")
    # the epoch after the restart is not looked at
    fit(resumed, tmp_path, monitor, rule, best, epochs=6, ckpt_path=tmp_path / "at.ckpt")
    assert [point.epoch for point in monitor.history] == [0, 2, 5]
    assert resumed.rates == pytest.approx(RATES[4:])
    assert best.best_model_score.item() == pytest.approx(0.2)
