"""Validate, train and predict a data module in several processes; run as a script by the tests.

Usage: ddp_validation.py ROOT OUT PROCESSES BATCH_SIZE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import DDPStrategy
from torchmetrics import MeanMetric

from ct_vlm.datamodules import CTRateDataModule
from ct_vlm.transforms import CTPreset


class Scorer(lightning.LightningModule):
    """A linear model with a buffer, which DDP broadcasts before every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        self.register_buffer("offset", torch.ones(1))
        self.score = MeanMetric()
        self.seen: dict[str, list[str]] = {"train": [], "validate": [], "test": [], "predict": []}

    def value(self, batch: dict[str, Any]) -> torch.Tensor:
        return self.layer(batch["image"].mean(dim=(1, 2, 3, 4), keepdim=False)[:, None])[:, 0] + self.offset

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen["train"] += batch["volume_id"]
        return self.value(batch).mean() * 0

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.seen["validate"] += batch["volume_id"]
        self.score(self.value(batch))
        self.log("score", self.score, on_step=False, on_epoch=True)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.seen["test"] += batch["volume_id"]
        self.score(self.value(batch))
        self.log("test_score", self.score, on_step=False, on_epoch=True)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.seen["predict"] += batch["volume_id"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def work(rank: int, root: str, out: str, world: int, batch_size: int) -> None:
    """Run one process and write down what it saw."""
    strategy = "auto"
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=world)
        strategy = DDPStrategy(process_group_backend="gloo", cluster_environment=Environment(rank, world))
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1 if world == 1 else world,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data = CTRateDataModule(
        root, CTPreset("small", size=(4, 4, 4)), batch_size=batch_size, val_fraction=0.5, text=None, labels=False
    )
    model = Scorer()
    trainer.fit(model, datamodule=data)
    score = float(trainer.callback_metrics["score"])
    for seen in model.seen.values():
        seen.sort()
    trainer.test(model, datamodule=data, verbose=False)
    test_score = float(trainer.callback_metrics["test_score"])
    trainer.predict(model, datamodule=data, return_predictions=False)
    result = {"score": score, "test_score": test_score, "seen": model.seen}
    Path(out, f"{rank}.json").write_text(json.dumps(result))


class Environment(lightning.fabric.plugins.environments.LightningEnvironment):
    """Processes that are started already."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__()
        self._rank, self._size = rank, world

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return self._size

    def set_world_size(self, size: int) -> None:
        self._size = size

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        self._rank = rank

    def local_rank(self) -> int:
        return self._rank


if __name__ == "__main__":
    arguments = (sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    torch.multiprocessing.spawn(work, args=arguments, nprocs=arguments[2])
