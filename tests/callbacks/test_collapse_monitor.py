from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from ct_vlm.callbacks import CollapseMonitor, CollapsePoint, CollapseRule
from ct_vlm.callbacks.padding import pad_to_longest
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.text.labels import CT_RATE_LABELS

TEXTS = {"Pleural effusion": "Pleural effusion is seen.", "Cardiomegaly": "Cardiomegaly."}
NAMES = list(TEXTS)


def sample(index: int) -> dict:
    name = NAMES[index % 2]
    labels = torch.tensor([float(label == name) for label in CT_RATE_LABELS])
    image = torch.full((1, 1, 1, 1), float(index % 2))
    return {"image": image, "labels": labels, "report": TEXTS[name], "patient_id": f"p{index}"}


def collate(items: list) -> dict:
    stacked = {key: torch.stack([item[key] for item in items]) for key in ("image", "labels")}
    return {**stacked, **{key: [item[key] for item in items] for key in ("report", "patient_id")}}


class Writer(LightningModule):
    """Reads its volume for some epochs, then writes one text for all while its loss goes on falling."""

    def __init__(self, reads_for: int) -> None:
        super().__init__()
        self.reads_for = reads_for
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def generate_batch(self, batch, **generation):
        reads = self.current_epoch < self.reads_for
        return [TEXTS[NAMES[int(reads and float(image.mean()) > 0.5)]] for image in batch["image"]]

    def training_step(self, batch, batch_idx):
        return self.weight.square().sum()

    def validation_step(self, batch, batch_idx) -> None:
        self.log("val/loss", 2.0 - 0.1 * self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(monitor, folder, reads_for, epochs):
    loader = DataLoader([sample(i) for i in range(8)], batch_size=4, collate_fn=collate)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    host = Trainer(
        max_epochs=epochs, callbacks=[monitor], default_root_dir=folder, enable_checkpointing=False, **options
    )
    host.fit(Writer(reads_for), loader, loader)
    return host


def test_a_run_that_collapses_is_seen_and_stopped(tmp_path, caplog) -> None:
    monitor = CollapseMonitor(["zeroed"], rule=CollapseRule(patience=2), stop=True, history_file=tmp_path / "h.json")
    with caplog.at_level(logging.WARNING):
        host = fit(monitor, tmp_path, reads_for=2, epochs=8)
    f1 = [point.gen_f1 for point in monitor.history]
    # two of 18 labels occur; a blank volume and one text for all find one of them, in half of the samples
    assert f1 == pytest.approx([f1[0], f1[0], f1[2], f1[2]])
    assert f1[2] < 0.5 * f1[0]
    assert [point.lm_loss for point in monitor.history] == pytest.approx([2.0, 1.9, 1.8, 1.7])
    assert [point.gap > 0.3 * point.gen_f1 for point in monitor.history] == [True, True, False, False]
    assert host.current_epoch == 4
    assert "generation F1 fell" in caplog.text
    assert "volumes of other patients" in caplog.text
    assert host.callback_metrics["val/gen_f1"].item() == pytest.approx(f1[-1])
    assert host.callback_metrics["val/gap_zeroed"].item() == pytest.approx(0.0)
    assert json.loads((tmp_path / "h.json").read_text()) == [point.to_dict() for point in monitor.history]


def test_a_run_that_reads_is_left_alone(tmp_path, caplog) -> None:
    monitor = CollapseMonitor(max_batches=1, every_n_epochs=2)
    with caplog.at_level(logging.WARNING, logger="ct_vlm"):
        fit(monitor, tmp_path, reads_for=99, epochs=4)
    assert [point.epoch for point in monitor.history] == [0, 1, 3]
    assert not caplog.records
    restored = CollapseMonitor()
    restored.load_state_dict(json.loads(json.dumps(monitor.state_dict())))
    assert restored.history == monitor.history


def test_two_processes_judge_alike(run_alone) -> None:
    assert "1 passed" in run_alone(Path(__file__).with_name("collapse_of_two.py"))


def test_the_rule_needs_patience_a_fall_and_a_better_loss() -> None:
    good, worse = CollapsePoint(0, 0.4, 1.3, 0.2), CollapsePoint(1, 0.2, 1.1, 0.1)
    rule = CollapseRule(patience=1)
    assert len(rule.findings([good, worse])) == 1
    assert CollapseRule(patience=2).findings([good, worse]) == []
    # a loss that rises is overfitting or divergence, which the loss itself shows
    assert rule.findings([good, CollapsePoint(1, 0.2, 1.5, 0.1)]) == []
    assert rule.findings([good, CollapsePoint(1, 0.33, 1.1, 0.1)]) == []
    assert rule.findings([CollapsePoint(0, 0.0, 1.0, 0.0)]) == []
    assert "other patients" in rule.findings([CollapsePoint(0, 0.3, 1.0, 0.01)])[0]


def test_one_patient_alone_is_written_for_without_the_arm(tmp_path, caplog) -> None:
    monitor = CollapseMonitor(["zeroed"], max_batches=1)
    items = [{**sample(index), "patient_id": "one"} for index in range(4)]
    loader = DataLoader(items, batch_size=4, collate_fn=collate)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    host = Trainer(max_epochs=1, callbacks=[monitor], default_root_dir=tmp_path, enable_checkpointing=False, **options)
    with caplog.at_level(logging.WARNING, logger="ct_vlm"):
        host.fit(Writer(9), loader, loader)
    assert monitor.history[0].gap is None
    assert "keep their own volume" in caplog.text
    assert {"val/gap_zeroed", "val/gen_f1"} <= set(host.callback_metrics)


def test_volumes_of_different_length_can_change_places() -> None:
    short = Features([torch.ones(2, 3, 4)], [(3, 1, 1)], torch.arange(3.0).expand(2, 3))
    long = Features([torch.ones(1, 5, 4)], [(5, 1, 1)], torch.arange(5.0)[None], torch.tensor([[False] * 4 + [True]]))
    first, second = (batch["features"] for batch in pad_to_longest([{"features": short}, {"features": long}]))
    assert first.grids == second.grids == [(5, 1, 1)]
    assert first.levels[0].shape == (2, 5, 4)
    assert first.padding_mask.tolist() == [[False] * 3 + [True] * 2] * 2
    assert second.padding_mask.tolist() == [[False] * 4 + [True]]
    assert first.slice_position_mm.shape == (2, 5)
    volumes = [{"image": torch.zeros(1, 1, 2, 2, 2)}, {"image": torch.zeros(1, 1, 3, 2, 2)}]
    assert [b["image"].shape[2] for b in pad_to_longest(volumes)] == [2, 3]


def test_wrong_use_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="every_n_epochs=0"):
        CollapseMonitor(every_n_epochs=0)
    with pytest.raises(ConfigError, match="logs no `val/nll`"):
        fit(CollapseMonitor(loss="val/nll"), tmp_path, reads_for=1, epochs=1)
    task = LightningModule()
    with pytest.raises(ConfigError, match="writes no reports"):
        CollapseMonitor().on_fit_start(Trainer(logger=False), task)
