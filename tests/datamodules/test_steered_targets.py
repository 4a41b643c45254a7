"""Targets with a list of abnormalities: of reports, of regions, of a published file, and what tests keep."""

from __future__ import annotations

import json
from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning import LightningDataModule

from ct_vlm.datamodules import RadGenomeDataModule, SteeredTargetDataModule
from ct_vlm.datasets.steering import read_scans
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.phantoms import write_radgenome
from ct_vlm.text import parse_cot, render_cot
from ct_vlm.transforms import CTPreset, FlipSafeAugmentation

REPORT = "Findings: Heart size is increased. No effusion. Impressions: Cardiomegaly."
BATCH = {"volume_id": ["a_1", "b_1"], "report": [REPORT, "Lungs are clear."]}


def steered(**options):
    return SteeredTargetDataModule(LightningDataModule(), **options)


def during(data, stage):
    flags = {name: name == stage for name in ("training", "validating", "testing", "predicting")}
    data.trainer = SimpleNamespace(current_epoch=0, **flags)
    return data.on_after_batch_transfer(dict(BATCH), 0)


def test_targets_are_list_and_report():
    batch = steered().add_targets(BATCH)
    found = [parse_cot(text) for text in batch["report"]]
    assert [list(map(tuple, target.abnormalities)) for target in found] == [[("heart", "Heart size is increased.")], []]
    assert [target.report for target in found] == batch["full_report"] == BATCH["report"]
    assert batch["abnormalities"] == ["(Heart: Heart size is increased.)", "(None)"]


def test_regions_of_the_data_set_decide_where_it_has_them():
    regions = [{"pleura": "A nodule."}, {}]
    assert steered().add_targets({**BATCH, "region_reports": regions})["abnormalities"] == [
        "(Pleura: A nodule.)",
        "(None)",
    ]


@pytest.mark.parametrize("stage", ["training", "validating"])
def test_what_each_switch_trains_on(stage):
    assert during(steered(steering="list"), stage)["report"][1] == "Abnormalities:\n(None)"
    assert during(steered(steering="cot"), stage)["report"][1] == render_cot([], "Lungs are clear.")
    assert during(steered(steering="none"), stage) == BATCH


@pytest.mark.parametrize("stage", ["testing", "predicting"])
def test_test_and_predict_keep_the_report(stage):
    batch = during(steered(), stage)
    assert batch["report"] == BATCH["report"]
    assert batch["abnormalities"] == ["(Heart: Heart size is increased.)", "(None)"]
    assert during(steered(steering="none"), stage) == BATCH


def test_predict_without_reports_still_says_that_texts_start_with_a_list():
    data = steered()
    data.trainer = SimpleNamespace(training=False, validating=False, testing=False, predicting=True)
    batch = data.on_after_batch_transfer({"volume_id": ["a_1", "b_1"]}, 0)
    assert batch["abnormalities"] == [None, None]


def test_lists_of_a_published_file(tmp_path):
    file = tmp_path / "train.json"
    turns = [{"value": "<video> Go."}, {"value": render_cot([("bone", "A fracture.")], "x")}]
    file.write_text(json.dumps([{"id": "a_1", "conversations": turns}]))
    data = steered(lists=file)
    assert data.lists_of({"volume_id": ["a_1"], "report": ["x"]}) == ["(Bone: A fracture.)"]
    with pytest.raises(DatasetError, match="no list of 'b_1'"):
        data.lists_of(BATCH)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="steering"):
        steered(steering="both")
    flipping = LightningDataModule()
    flipping.augment = FlipSafeAugmentation(flip_probability=0.5)
    wrapped = LightningDataModule()
    wrapped.data = flipping
    with pytest.raises(ConfigError, match="flipped in training"):
        SteeredTargetDataModule(wrapped, lists="x.json")
    assert SteeredTargetDataModule(wrapped).steering == "cot"
    with pytest.raises(DatasetError, match="no `report`"):
        steered().add_targets({"volume_id": ["a_1"]})


class SteeredRecorder(lightning.LightningModule):
    """Learns nothing and writes down what it sees."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        return self.weight * batch["image"].mean()

    def predict_step(self, batch, batch_idx):
        self.seen.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lists_of_a_radgenome_tree_reach_the_batches(tmp_path):
    write_radgenome(tmp_path / "tree", 4, shape=(6, 8, 8), seed=1, valid_fraction=0.25, workers=0, progress=False)
    preset = CTPreset("small", size=(4, 6, 6))
    data = SteeredTargetDataModule(RadGenomeDataModule(tmp_path / "tree", preset=preset, masks=False, batch_size=2))
    model = SteeredRecorder()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=1, limit_val_batches=0, default_root_dir=tmp_path, **quiet)
    trainer.fit(model, data)
    lists = {scan.id: scan.abnormalities for scan in read_scans(tmp_path / "tree", "train")}
    trained = [pair for batch in model.seen for pair in zip(batch["volume_id"], batch["report"], strict=True)]
    assert trained
    assert any(lists[name] for name, _ in trained)
    assert all(parse_cot(text).abnormalities == lists[name] for name, text in trained)
    model.seen.clear()
    trainer.predict(model, data)
    assert all("abnormalities" in batch for batch in model.seen)
