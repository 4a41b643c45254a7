"""Patient attributes of a tree: measured once, read with the items, never made up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ct_vlm.attributes import PatientAttributes, measure_attributes, read_masks, render_attributes
from ct_vlm.datamodules import RadGenomeDataModule
from ct_vlm.datasets.radgenome import measure_radgenome
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.transforms import FlipSafeAugmentation

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def measured(sound, tmp_path_factory) -> Path:
    """Attributes of every volume of the sound tree; not to be changed."""
    out = tmp_path_factory.mktemp("attributes")
    done = measure_radgenome(sound.root, out, progress=False)
    assert not done.failed
    assert sorted(done.made) == sorted(file.stem for file in out.iterdir())
    return out


def test_every_volume_of_both_splits_is_measured_on_its_anatomy_masks(sound, measured):
    files = sorted(sound.root.glob("dataset/*_preprocessed/*/*/*.nii.gz"))
    assert [f"{file.name.split('.')[0]}.json" for file in files] == sorted(file.name for file in measured.iterdir())
    name = files[0].name.split(".")[0]
    masks = next(sound.root.glob(f"dataset/*_anatomy_mask/seg_{name}"))
    expected = measure_attributes(read_masks(masks, only_known=True), volume_id=name)
    found = PatientAttributes.load(measured / f"{name}.json")
    assert found.to_dict() == expected.to_dict()
    assert found.volume_ml("lung") > 0
    assert "Lung nodules: not assessed" in render_attributes(found)


def test_a_second_run_leaves_files_alone(sound, measured):
    before = {file: file.stat().st_mtime_ns for file in measured.iterdir()}
    again = measure_radgenome(sound.root, measured, progress=False)
    assert again.made == []
    assert len(again.present) == len(before)
    assert before == {file: file.stat().st_mtime_ns for file in measured.iterdir()}


def test_a_volume_that_cannot_be_measured_is_named_and_has_no_file(copied, tmp_path):
    folder = next(copied.root.glob("dataset/train_anatomy_mask/seg_*"))
    name = folder.name.removeprefix("seg_")
    (folder / "heart.nii.gz").write_bytes(b"broken")
    done = measure_radgenome(copied.root, tmp_path / "out", split="train", progress=False)
    assert list(done.failed) == [name]
    assert "heart.nii.gz" in done.failed[name]
    assert not (tmp_path / "out" / f"{name}.json").exists()
    assert done.made


def test_items_and_batches_hold_the_attributes_of_their_volume(sound, measured, open_tree):
    dataset = open_tree(sound, attributes=measured)
    for index in range(len(dataset)):
        item = dataset.record(index)
        assert item["attributes"]["volume_id"] == item["volume_id"]
    data = RadGenomeDataModule(sound.root, preset="phantom", attributes=measured, batch_size=2, val_fraction=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert [entry["volume_id"] for entry in batch["attributes"]] == batch["volume_id"]


def test_missing_attributes_are_an_error_or_absent(sound, measured, open_tree, tmp_path):
    kept = sorted(measured.glob("train_*.json"))[1:]
    for file in kept:
        (tmp_path / file.name).write_text(file.read_text())
    with pytest.raises(DatasetError, match="1 volumes have no patient attributes"):
        open_tree(sound, attributes=tmp_path)
    dataset = open_tree(sound, attributes=tmp_path, missing_attributes="absent")
    found = [dataset.record(index)["attributes"] for index in range(len(dataset))]
    assert [entry is None for entry in found] == [True] + [False] * len(kept)


def test_damaged_or_foreign_files_raise_whatever_the_policy(sound, measured, open_tree, tmp_path):
    first, second, *_ = sorted(measured.glob("train_*.json"))
    options = {"attributes": tmp_path, "missing_attributes": "absent"}
    (tmp_path / first.name).write_text(second.read_text())
    with pytest.raises(DatasetError, match=f"holds the attributes of '{second.stem}'"):
        open_tree(sound, **options).record(0)
    (tmp_path / first.name).write_text(json.dumps({"version": 0}))
    with pytest.raises(DatasetError, match="version"):
        open_tree(sound, **options).record(0)


def test_what_cannot_work_is_refused(sound, measured, open_tree, tmp_path):
    with pytest.raises(ConfigError, match="mirrors"):
        open_tree(sound, attributes=measured, augment=FlipSafeAugmentation(flip_probability=0.5))
    with pytest.raises(DatasetError, match="no folder of patient attributes"):
        open_tree(sound, attributes=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="missing_attributes"):
        open_tree(sound, attributes=measured, missing_attributes="zero")
