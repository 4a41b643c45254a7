"""Two processes (gloo) see the pairs that one sees; run by `test_dpo_ddp.py` in a process of its own."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from lightning import Trainer

from ct_vlm.datamodules import FeatureDataModule, FeatureDataset, PreferenceDataModule
from ct_vlm.datasets.preferences import PreferencePair, write_preferences
from ct_vlm.tasks import DPOLightningModule, OptimizerConfig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork launcher needs Linux")
TEXTS = ["Effusion is seen.", "A nodule is seen.", "No abnormality."]


def metrics(ker_parts, folder, processes: int, reference: str) -> tuple[dict[str, float], int]:
    torch.manual_seed(0)
    levels = torch.randn(10, 9, 8)
    items = [{"volume_id": f"v{i}", "report": "Clear."} for i in range(10)]
    write_preferences(
        [PreferencePair(f"v{i}", "Findings:", TEXTS[i % 3], TEXTS[(i + 1) % 3]) for i in range(10)], folder / "p.jsonl"
    )
    half = {"train": slice(0, 5), "val": slice(5, 10)}
    datasets = {name: FeatureDataset([levels[part]], [(9, 1, 1)], items[part]) for name, part in half.items()}
    # every process sees all pairs of its share in one batch
    data = PreferenceDataModule(FeatureDataModule(datasets, batch_size=6 // processes), folder / "p.jsonl")
    store = folder / f"{processes}"
    options = {"reference_dir": str(store)} if reference == "precomputed" else {}
    task = DPOLightningModule(
        ker_parts.encoder(),
        [ker_parts.visual()],
        ker_parts.decoder(),
        "Findings:",
        optimizer=OptimizerConfig(name="sgd", lr=0.1, schedule="constant"),
        reference=reference,
        **options,
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        max_steps=2,
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=data)
    stored = {name for file in store.rglob("*.json") for name in json.loads(file.read_text())}
    return {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}, len(
        stored
    )


@pytest.mark.parametrize("reference", ["weights", "precomputed"])
def test_two_processes_see_every_pair(reference, ker_parts, tmp_path):
    one, two = (metrics(ker_parts, tmp_path, count, reference) for count in (1, 2))
    assert set(one[0]) == {"val/loss", "val/accuracy", "val/margin", "val/kl"} == set(two[0])
    assert one[1] == two[1] == (10 if reference == "precomputed" else 0)
    assert two[0]["val/accuracy"] * 10 == pytest.approx(round(two[0]["val/accuracy"] * 10))
    assert two[0]["val/kl"] > 0
