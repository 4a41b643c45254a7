"""Targets with a list of abnormalities: of reports, of regions, of a published file, and what tests keep."""

from __future__ import annotations

import json
from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning import LightningDataModule

from ct_vlm.datamodules import CTRateDataModule, RadGenomeDataModule, SteeredTargetDataModule
from ct_vlm.datasets.steering import read_scans
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.phantoms import write_ct_rate, write_radgenome
from ct_vlm.text import parse_cot, render_cot
from ct_vlm.transforms import CTPreset, FlipSafeAugmentation

REPORT = "Findings: Heart size is increased. No effusion. Impressions: Cardiomegaly."
BATCH = {"volume_id": ["a_1", "b_1"], "report": [REPORT, "Lungs are clear."]}


def steered(**options):
    return SteeredTargetDataModule(LightningDataModule(), **options)


def during_stage(data, stage):
    flags = {name: name == stage for name in ("training", "validating", "testing", "predicting")}
    data.trainer = SimpleNamespace(current_epoch=0, **flags)
    return data


def during(data, stage):
    return during_stage(data, stage).on_after_batch_transfer(dict(BATCH), 0)


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


def publish(file, **answers):
    rows = [
        {"id": name, "conversations": [{"value": "<video> Go."}, {"value": text}]} for name, text in answers.items()
    ]
    file.write_text(json.dumps(rows))
    return file


@pytest.fixture
def published(tmp_path):
    """Two files, of one volume each."""
    train = publish(tmp_path / "train.json", a_1=render_cot([("bone", "A fracture.")], "x"))
    return [train, publish(tmp_path / "valid.json", c_1=render_cot([], "x"))]


class VolumesToSteer(LightningDataModule):
    """Parts of named volumes without voxels."""

    def __init__(self, **parts):
        super().__init__()
        items = {part: [{"volume_id": name} for name in names] for part, names in parts.items()}
        self.datasets = {part: SimpleNamespace(items=own) for part, own in items.items()}


def test_published_files_are_read_once_in_setup(published):
    data = SteeredTargetDataModule(VolumesToSteer(train=["a_1"], val=["c_1"], test=["b_1"]), lists=published)
    data.setup("fit")
    for file in published:
        file.unlink()
    batch = data.add_targets({"volume_id": ["a_1", "c_1"], "report": ["Clear.", REPORT]})
    assert batch["report"] == [render_cot([("bone", "A fracture.")], "Clear."), render_cot([], REPORT)]
    with pytest.raises(DatasetError, match="no list of 'b_1'"):
        data.add_targets(BATCH)


@pytest.mark.parametrize("stage", ["testing", "predicting"])
def test_volumes_that_files_lack_get_lists_of_their_reports_or_none_when_scored(published, stage):
    data = during_stage(steered(lists=published), stage)
    names = {"volume_id": ["a_1", "b_1"]}
    found = data.on_after_batch_transfer({**names, "report": ["Clear.", REPORT]}, 0)
    assert found["abnormalities"] == ["(Bone: A fracture.)", "(Heart: Heart size is increased.)"]
    assert data.on_after_batch_transfer(dict(names), 0)["abnormalities"] == ["(Bone: A fracture.)", None]


def test_volumes_without_a_list_are_all_named_before_training(published):
    data = SteeredTargetDataModule(VolumesToSteer(train=["a_1", "b_1", "d_1"]), lists=published)
    with pytest.raises(DatasetError, match=r"2 of 3 volumes of the 'train' part .*: b_1, d_1\. Name them .* `exclude`"):
        data.setup("fit")
    none = SteeredTargetDataModule(VolumesToSteer(train=["a_1", "b_1"]), "none", lists=published)
    none.setup("fit")
    other = SteeredTargetDataModule(VolumesToSteer(val=[f"x_{i}" for i in range(101)]), lists=published[0])
    with pytest.raises(DatasetError, match="x_2 and others; the files name a_1 and others"):
        other.setup("fit")


@pytest.mark.parametrize("policy", ["all", "random"])
def test_every_reconstruction_of_a_tree_needs_its_list(tmp_path, policy):
    write_ct_rate(tmp_path / "tree", 4, shape=(4, 8, 8), seed=1, second_recon=1.0, workers=0, progress=False)
    options = {"val_fraction": 0.0, "recon_policy": policy}
    whole = CTRateDataModule(tmp_path / "tree", **options)
    whole.setup("fit")
    names = [sample.name.volume_id for sample in whole.datasets["train"].samples]
    assert len(names) > 1
    file = publish(tmp_path / "lists.json", **dict.fromkeys(names[1:], "(None)"))
    with pytest.raises(DatasetError, match=names[0]):
        SteeredTargetDataModule(CTRateDataModule(tmp_path / "tree", **options), lists=file).setup("fit")
    rest = CTRateDataModule(tmp_path / "tree", exclude=names[:1], **options)
    SteeredTargetDataModule(rest, lists=file).setup("fit")
    assert len(rest.datasets["train"].samples) == len(names) - 1


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("Lung: Consolidation.\nFindings: Consolidation.", "empty"),
        ("**Abnormality**\n(Lung: Consolidation.)", "empty"),
        ("Abnormal findings:\n- Lung: Consolidation.\nReport: Consolidation.", "outside"),
        ("(lungs: Consolidation.)", "unknown region"),
        ("(Lung: Consolidation", "truncated"),
    ],
)
def test_a_list_that_is_not_read_in_full_is_refused(answer, what, tmp_path):
    file = publish(tmp_path / "lists.json", a_1="(Lung: A nodule.)", b_1=answer, c_1=answer)
    with pytest.raises(DatasetError, match=rf"2 of 3 lists .* first is of 'b_1' \({what}.*`fields`"):
        steered(lists=file).setup("fit")


def test_what_is_lost_nowhere_is_read(tmp_path):
    # a list without a report, and one with an entry twice
    file = publish(tmp_path / "lists.json", a_1="(Lung: A nodule.)", b_1="(Lung: A nodule.)\n(Lung: A nodule.)")
    assert steered(lists=file).lists_of({"volume_id": ["a_1", "b_1"]}) == ["(Lung: A nodule.)"] * 2


def test_other_names_of_fields_and_two_lists_of_a_volume(tmp_path, published):
    file = tmp_path / "other.json"
    file.write_text(json.dumps([{"id": "a_1", "ask": "Go.", "told": "(Lung: A nodule.)"}]))
    fields = {"prompt": "ask", "answer": "told"}
    assert steered(lists=file, fields=fields).lists_of({"volume_id": ["a_1"]}) == ["(Lung: A nodule.)"]
    again = publish(tmp_path / "again.json", a_1="(None)")
    with pytest.raises(DatasetError, match="another list of 'a_1'"):
        steered(lists=[published[0], again]).setup("fit")
    with pytest.raises(ConfigError, match="no `lists`"):
        steered(fields=fields)


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
