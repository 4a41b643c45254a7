"""Phases of which losses read some heads only train on two processes (gloo); run by `test_alignment_ddp.py`."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from lightning import Trainer

from ct_vlm.datamodules import FeatureDataModule, FeatureDataset
from ct_vlm.tasks import AlignedReportLightningModule, OptimizerConfig, VisualAlignmentLightningModule

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork launcher needs Linux")
OPTIMIZER = OptimizerConfig(name="sgd", lr=0.1, schedule="constant")


def phase_2(parts):
    own = (parts.encoder(), parts.visual(), parts.jepa())
    return VisualAlignmentLightningModule(*own, OPTIMIZER, num_labels=2, losses={"info_nce": 1.0, "mmd": 0.5})


def phase_3(parts):
    own = (parts.encoder(), [parts.visual()], parts.decoder(), parts.jepa())
    return AlignedReportLightningModule(*own, optimizer=OPTIMIZER, num_labels=2, losses={"lm": 1.0})


@pytest.mark.parametrize(
    ("build", "trained", "unread"),
    [(phase_2, "jepa.", ("classifier.",)), (phase_3, "decoder.", ("token_", "language_", "jepa."))],
)
def test_two_processes_train(build, trained, unread, ker_parts):
    torch.manual_seed(0)
    # of 5 validation samples one process has 3 and the other 2
    batch = {**ker_parts.batch(), "condition_mask": torch.ones(4, 2, dtype=torch.bool)}
    levels = batch.pop("features").levels[0]
    items = [{key: value[row] for key, value in batch.items()} for row in (0, 1, 2, 3, 0)]
    for number, item in enumerate(items):
        item["volume_id"] = f"v{number}"
    parts = {"train": FeatureDataset([levels], [(9, 1, 1)], items[:4])}
    parts["val"] = FeatureDataset([levels[[0, 1, 2, 3, 0]]], [(9, 1, 1)], items)
    task = build(ker_parts)
    start = copy.deepcopy(task.state_dict())
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        max_epochs=2,
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=FeatureDataModule(parts, batch_size=2, eval_batch_size=4))
    assert torch.isfinite(trainer.callback_metrics["val/loss"])
    moved = {name for name, tensor in task.state_dict().items() if not torch.equal(tensor, start[name])}
    assert any(name.startswith(trained) for name in moved)
    assert not any(name.startswith(unread) for name in moved)
