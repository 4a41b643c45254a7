from __future__ import annotations

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from ct_vlm.callbacks import FreezeAfterEpoch, ReduceLROnMetric
from ct_vlm.errors import ConfigError

F1 = [0.1, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.4]


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
    with pytest.raises(ConfigError, match="logs no `val/f1`"):
        fit(HalvedSteps(), tmp_path, ReduceLROnMetric("val/f1"), epochs=1)
    with pytest.raises(ConfigError, match="has a name like"):
        fit(HalvedSteps(), tmp_path, FreezeAfterEpoch("qkv", 2), epochs=1)
    with pytest.raises(ConfigError, match="regular expression"):
        FreezeAfterEpoch("(", 2)


def test_rates_fall_no_further_than_asked() -> None:
    rule = ReduceLROnMetric(patience=0, min_factor=0.2, mode="min")
    assert [rule.seen(value) for value in (1.0, 2.0, 2.0, 2.0, 2.0)] == [False, True, True, False, False]
