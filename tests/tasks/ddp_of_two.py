"""Two processes (gloo) give the metrics of one; run by `test_ddp.py` in a process of its own."""

from __future__ import annotations

import sys

import pytest
import torch
from lightning import Trainer

from ct_vlm.datamodules import CTRateDataModule
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.models import u_vlm, u_vlm_classification
from ct_vlm.tasks import ClassificationLightningModule, ReportLightningModule

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork launcher needs Linux")


def report() -> ReportLightningModule:
    tokenizer = train_bpe_tokenizer(["The heart size is normal. Pleural effusion."] * 2, 300)
    model = u_vlm("tiny", tokenizer=tokenizer)
    return ReportLightningModule.from_model(model, generation={"max_new_tokens": 4})


def classification() -> ClassificationLightningModule:
    model = u_vlm_classification("tiny")
    return ClassificationLightningModule(model.encoder, model.head)


def metrics(build, phantoms, command: str, processes: int) -> dict[str, float]:
    torch.manual_seed(0)
    data = CTRateDataModule(
        phantoms, batch_size=2, eval_batch_size=3, val_fraction=0.5, recon_policy="first", cache_dir=phantoms / "cache"
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    return getattr(trainer, command)(build(), datamodule=data, verbose=False)[0]


@pytest.mark.parametrize(("build", "command"), [(report, "validate"), (report, "test"), (classification, "validate")])
def test_two_processes_equal_one(build, command, phantoms):
    one, two = (metrics(build, phantoms, command, n) for n in (1, 2))
    assert one.keys() == two.keys()
    assert len(one) > 0
    for name, value in one.items():
        # batches of other samples sum in another order: float32 rounding
        assert two[name] == pytest.approx(value, rel=1e-5, nan_ok=True), name
