"""Train one stage of the demo; a killed run goes on where its last checkpoint was."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from ct_vlm.callbacks import RNGState
from ct_vlm.component import CONFIG_NAME, WEIGHTS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning import LightningDataModule

    from ct_vlm.tasks import TrainingTask

_CHECKPOINT_EVERY = 100
TaskT = TypeVar("TaskT", bound="TrainingTask")


def choose_processes() -> int:
    """Return how many data-parallel processes to train with.

    Two single-threaded processes beat two threads of one: small 3D convolutions leave the second
    thread idle half of the time, and on a busy machine its spinning costs more than it brings.
    """
    if torch.cuda.is_available() or not sys.platform.startswith("linux"):
        return 1
    return min(2, len(os.sched_getaffinity(0)))


def train_stage(
    build: Callable[[], TaskT],
    data: Callable[[], LightningDataModule],
    folder: Path,
    *,
    steps: int,
    processes: int,
    progress: bool,
) -> TaskT:
    """Train a stage, or load it if it is finished.

    Args:
        build: Makes the untrained task.
        data: Makes its data.
        folder: Where checkpoints, logs and the trained part go.
        steps: Optimizer steps.
        processes: Data-parallel processes.
        progress: Whether to show a progress bar.

    Returns:
        The trained task.
    """
    task = build()
    if (folder / CONFIG_NAME).is_file() and (folder / WEIGHTS_NAME).is_file():
        return type(task).from_pretrained(folder)
    trainer = make_trainer(folder, steps=steps, processes=processes, progress=progress)
    last = folder / "checkpoints" / "last.ckpt"
    with warnings.catch_warnings():
        # a missing validation loader and few loader workers are intended here
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(task, datamodule=data(), ckpt_path=str(last) if last.is_file() else None)
    task.save_pretrained(folder)
    return task


def make_trainer(folder: Path, *, steps: int, processes: int, progress: bool) -> Trainer:
    """Return the trainer of one stage."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    callbacks: list[Any] = [
        RNGState(),
        ModelCheckpoint(folder / "checkpoints", save_last=True, save_top_k=0, every_n_train_steps=_CHECKPOINT_EVERY),
    ]
    if progress:
        callbacks.append(RichProgressBar(leave=True))
    return Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        max_steps=steps,
        max_epochs=-1,
        logger=CSVLogger(folder, name="", version="logs"),
        callbacks=callbacks,
        enable_progress_bar=progress,
        enable_model_summary=False,
        gradient_clip_val=12.0,  # U-VLM's
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
