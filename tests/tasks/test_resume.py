"""A run that was killed goes on with exactly the losses it would have had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ct_vlm.callbacks import RNGState
from ct_vlm.datamodules import CTRateDataModule
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.models import u_vlm
from ct_vlm.tasks import OptimizerConfig, ReportLightningModule, load_task
from ct_vlm.tasks.base import CHECKPOINT_KEY


class Losses(Callback):
    """Keep every training loss; stop in the middle of an epoch after some steps."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.values: list[float] = []

    def stop(self) -> None:
        raise KeyboardInterrupt

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(float(outputs["loss"]))
        if trainer.global_step == self.kill_at:
            self.stop()


class AwaitKill(Losses):
    """Report the losses so far and wait for the kill, which nothing can catch."""

    def stop(self) -> None:
        sys.stdout.write(f"{json.dumps(self.values)}\n")
        sys.stdout.flush()
        time.sleep(600)


def task() -> ReportLightningModule:
    torch.manual_seed(0)
    tokenizer = train_bpe_tokenizer(["The heart size is normal. Pleural effusion."] * 2, 300)
    # dropout draws random numbers, so losses agree only if their state is restored too
    model = u_vlm("tiny", tokenizer=tokenizer, num_layers=4, dropout=0.2)
    return ReportLightningModule.from_model(model, OptimizerConfig(lr=1e-3))


def fit(phantoms, folder, kill_at=None, resume=None, callback=Losses) -> list[float]:
    losses = callback(kill_at)
    data = CTRateDataModule(phantoms, batch_size=3, val_fraction=0.0, cache_dir=phantoms / "cache", seed=5)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=8,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[losses, RNGState(), ModelCheckpoint(folder, save_last=True, save_top_k=0, every_n_train_steps=3)],
    )
    model = task()
    torch.manual_seed(1 if resume is None else 99)  # another process would not draw the same numbers
    try:
        trainer.fit(model, datamodule=data, ckpt_path=resume)
    except (KeyboardInterrupt, SystemExit):
        assert kill_at is not None
    return losses.values


@pytest.fixture(scope="module")
def whole(phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return fit(phantoms, folder), folder


def test_resumed_losses_equal_those_of_an_unbroken_run(whole, phantoms, tmp_path):
    # 14 training volumes in batches of 3: the kill after step 7 falls into the second epoch
    first = fit(phantoms, tmp_path, kill_at=7)
    assert first == whole[0][: len(first)]
    resumed = fit(phantoms, tmp_path, resume=str(tmp_path / "last.ckpt"))
    assert resumed == whole[0][6:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_run_killed_by_the_system_resumes_with_the_same_losses(whole, phantoms, tmp_path):
    code = (
        "import sys; from pathlib import Path; from test_resume import AwaitKill, fit;"
        "fit(Path(sys.argv[1]), Path(sys.argv[2]), kill_at=7, callback=AwaitKill)"
    )
    arguments = [sys.executable, "-c", code, str(phantoms), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        line = next((line for line in process.stdout if line.startswith("[")), "[]")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    # another process has the losses of the unbroken run, to the last bit
    assert json.loads(line) == whole[0][:7]
    assert fit(phantoms, tmp_path, resume=str(tmp_path / "last.ckpt")) == whole[0][6:]


def test_checkpoint_rebuilds_the_task_alone_and_safely(whole):
    path = whole[1] / "last.ckpt"
    loaded = ReportLightningModule.load_from_checkpoint(path)
    assert loaded.preset.name == "phantom"
    assert loaded.optimizer == OptimizerConfig(lr=1e-3)
    assert not any(p.requires_grad for p in loaded.encoder.parameters())
    stored = torch.load(path, weights_only=True)
    assert set(stored["state_dict"]) == set(loaded.state_dict())
    assert all(stored["state_dict"][k].equal(v) for k, v in loaded.state_dict().items())


def test_checkpoints_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="No checkpoint"):
        load_task(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match="read safely"):
        load_task(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no ct_vlm config"):
        load_task(tmp_path / "other.ckpt")


def test_checkpoint_with_missing_keys_is_refused(whole, tmp_path):
    stored = torch.load(whole[1] / "last.ckpt", weights_only=True)
    stored["state_dict"].popitem()
    torch.save({CHECKPOINT_KEY: stored[CHECKPOINT_KEY], "state_dict": stored["state_dict"]}, tmp_path / "cut.ckpt")
    with pytest.raises(CheckpointError, match="Missing key"):
        load_task(tmp_path / "cut.ckpt")


def test_unknown_frozen_part_is_refused():
    with pytest.raises(ConfigError, match="names no part"):
        task().set_training(OptimizerConfig(), ["enc"])


def test_frozen_parts_stay_in_eval_mode():
    model = task().train()
    assert not model.encoder.training
    assert model.decoder.training
