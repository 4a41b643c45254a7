"""One of two processes (gloo) collapses, and both stop; run by `test_collapse_monitor.py` in a process of its own."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from ct_vlm.callbacks import CollapseMonitor, CollapseRule
from ct_vlm.text.labels import CT_RATE_LABELS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork launcher needs Linux")
NAMES = ["Pleural effusion", "Cardiomegaly"]
TEXTS = ["Pleural effusion is seen.", "Cardiomegaly."]


def sample(index: int) -> dict:
    kind = index // 2 % 2  # the sampler deals samples out in turn
    labels = torch.tensor([float(label == NAMES[kind]) for label in CT_RATE_LABELS])
    return {"image": torch.full((1, 1, 1, 1), float(kind)), "labels": labels, "patient_id": f"p{index}"}


def collate(items: list) -> dict:
    stacked = {key: torch.stack([item[key] for item in items]) for key in ("image", "labels")}
    return {**stacked, "patient_id": [item["patient_id"] for item in items]}


class SecondStopsReading(LightningModule):
    """Reads its volumes, but in the second process for two epochs only."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def generate_batch(self, batch, **generation):
        reads = self.global_rank == 0 or self.current_epoch < 2
        return [TEXTS[int(reads and float(image.mean()) > 0.5)] for image in batch["image"]]

    def training_step(self, batch, batch_idx):
        return self.weight.square().sum()

    def validation_step(self, batch, batch_idx) -> None:
        self.log("val/loss", 2.0 - 0.1 * self.current_epoch + self.global_rank, sync_dist=False)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Recorded(CollapseMonitor):
    """Writes what each process has seen."""

    def on_fit_end(self, trainer, pl_module) -> None:
        history = [point.to_dict() for point in self.history]
        self.history_file.with_name(f"{trainer.global_rank}.json").write_text(json.dumps(history))


def test_both_processes_judge_alike_and_stop(tmp_path):
    monitor = Recorded(rule=CollapseRule(patience=2), stop=True, history_file=tmp_path / "history.json")
    loader = DataLoader([sample(i) for i in range(8)], batch_size=4, collate_fn=collate)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        max_epochs=8,
        callbacks=[monitor],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(SecondStopsReading(), loader, loader)
    first, second, written = (json.loads((tmp_path / f"{name}.json").read_text()) for name in (0, 1, "history"))
    assert first == second == written
    f1 = [point["gen_f1"] for point in first]
    # of both labels the second process finds one, in half of the samples: 2 * 1/2 / (1 + 1/2) of F1 1, and 0
    assert f1 == pytest.approx([f1[0], f1[0], f1[0] * 2 / 3, f1[0] * 2 / 3])
    assert [point["lm_loss"] for point in first] == pytest.approx([2.5, 2.4, 2.3, 2.2])
