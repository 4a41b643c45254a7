"""`CTRateDataset`: layout, tables, policies and everything that is left out."""

from __future__ import annotations

import hashlib
import logging
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

from ct_vlm.datasets import CTRateDataset, EpochIndex
from ct_vlm.errors import ConfigError, DatasetError, HUError, VolumeError
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from pathlib import Path

SMALL = CTPreset("small", size=(4, 5, 6))


def dataset(tree: Any, split: str = "train", **arguments: Any) -> CTRateDataset:
    return CTRateDataset(tree.root, split, **{"preset": SMALL, **arguments})


def ids(data: CTRateDataset) -> list[str]:
    return [data.sample(index).name.volume_id for index in range(len(data))]


def test_items(tree: Any) -> None:
    data = dataset(tree)
    assert ids(data)[:4] == ["train_1_a_1", "train_1_a_2", "train_1_b_1", "train_2_a_1"]
    item = data[1]
    assert item["image"].shape == (1, 4, 5, 6)
    assert item["image"].dtype == torch.int16
    torch.testing.assert_close(item["spacing"], torch.tensor([10.0, 8.0, 8.0]))
    assert item["report"] == "Findings of train_1_a_2."
    assert (item["volume_id"], item["study_id"], item["patient_id"]) == ("train_1_a_2", "train_1_a", "train_1")
    assert item["labels"].dtype == torch.float32
    assert item["labels"].tolist() == [float(bit) for bit in tree.labels["train"][1][1:]]
    assert data.report.issues() == {}


def test_image_is_the_file_in_canonical_order(tree: Any, tree_module: Any) -> None:
    image = dataset(tree, preset=CTPreset("own"))[0]["image"][0].numpy()
    expected = tree_module.body(sum(map(ord, "train_1_a_1"))).transpose(2, 1, 0)[::-1]
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("inner", [False, True])
def test_root_with_or_without_dataset_folder(tree: Any, inner: bool) -> None:
    data = CTRateDataset(tree.base if inner else tree.root, "valid", preset=SMALL)
    assert ids(data) == ["valid_1_a_1", "valid_2_a_1", "valid_2_a_2"]


@pytest.mark.parametrize("place", ["flattened", "root", "valid spelling", "bom"])
def test_other_places_and_names_of_tables(tree: Any, place: str) -> None:
    usual = tree.base / "radiology_text_reports" / "validation_reports.csv"
    targets = {
        "flattened": tree.root / "dataset_radiology_text_reports_validation_reports.csv",
        "root": tree.root / "validation_reports.csv",
        "valid spelling": usual.with_name("valid_reports.csv"),
        "bom": usual,
    }
    text = usual.read_text()
    usual.unlink()
    targets[place].write_text(text, encoding="utf-8-sig" if place == "bom" else "utf-8")
    data = dataset(tree, "valid")
    assert len(data) == 3
    assert data.report.tables["reports"] == str(targets[place])


def test_label_table_called_validation(tree: Any) -> None:
    path = tree.base / "multi_abnormality_labels" / "valid_predicted_labels.csv"
    path.rename(path.with_name("validation_predicted_labels.csv"))
    assert len(dataset(tree, "valid")) == 3


@pytest.mark.parametrize("intercept", [-1024, -8192])
def test_v1_gives_the_same_hu_as_v2(new_tree: Any, intercept: int) -> None:
    for version in ("v1", "v2"):
        new_tree.add("train_1_a_1", version=version, intercept=intercept, rows=version == "v1")
    new_tree.write()
    first, second = (dataset(new_tree, version=version) for version in ("v1", "v2"))
    assert (first.report.version, second.report.version) == ("v1", "v2")
    assert (first.hu_source, second.hu_source) == ("csv", "fixed")
    assert torch.equal(first[0]["image"], second[0]["image"])
    assert torch.equal(first[0]["spacing"], second[0]["spacing"])
    assert dataset(new_tree).report.version == "v2"


def test_v1_below_a_folder_that_ends_in_fixed(tmp_path: Path, tree_module: Any) -> None:
    tree = tree_module.Tree(tmp_path / "disk_fixed")
    tree.add("train_1_a_1", version="v1")
    assert dataset(tree.write(), preset=CTPreset("own"))[0]["image"].min() < -900


def test_v1_without_usable_metadata_is_reported(new_tree: Any) -> None:
    new_tree.add("train_1_a_1", version="v1")
    new_tree.add("train_2_a_1", version="v1", z_spacing="")
    new_tree.add("train_3_a_1", version="v1")
    new_tree.metadata["train"].pop()
    data = dataset(new_tree.write())
    assert ids(data) == ["train_1_a_1"]
    assert data.report.missing_metadata == ["train_2_a_1", "train_3_a_1"]


def test_rescaling_v2_again_is_refused(tree: Any) -> None:
    data = dataset(tree, hu_source="csv")
    with pytest.raises(HUError, match="rescaled twice"):
        data[0]


def test_rows_without_files_and_files_without_rows(tree: Any, caplog: pytest.LogCaptureFixture) -> None:
    tree.add_rows("train_99_a_1", "train")
    tree.add("train_98_a_1", rows=False)
    tree.write()
    with caplog.at_level(logging.WARNING):
        data = dataset(tree)
    assert data.report.rows_without_file == ["train_99_a_1"]
    assert data.report.files_without_row == ["train_98_a_1"]
    assert (data.report.rows, data.report.files, data.report.samples) == (9, 9, 8)
    assert "rows without file 1" in caplog.text
    assert "files without row 1" in caplog.text
    assert "train_99_a_1" in str(data.report)


def test_a_whole_index_logs_nothing(tree: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        dataset(tree)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("findings", "Findings of train_2_a_1."),
        ("impressions", "Summary of train_2_a_1."),
        ("both", "Findings: Findings of train_2_a_1. Impressions: Summary of train_2_a_1."),
    ],
)
def test_text(tree: Any, text: str, expected: str) -> None:
    assert dataset(tree, text=text, patients=["train_2"])[0]["report"] == expected


@pytest.mark.parametrize("blank", ["", "Not given.", "not given", "nan", "  "])
def test_missing_text(new_tree: Any, blank: str) -> None:
    new_tree.add("train_1_a_1", findings=blank, impressions="Normal.")
    new_tree.add("train_2_a_1", findings=blank, impressions=blank)
    new_tree.add("train_3_a_1")
    new_tree.write()
    findings = dataset(new_tree)
    assert ids(findings) == ["train_3_a_1"]
    assert findings.report.missing_text == ["train_1_a_1", "train_2_a_1"]
    both = dataset(new_tree, text="both")
    assert both[0]["report"] == "Impressions: Normal."
    assert both.report.missing_text == ["train_2_a_1"]
    kept = dataset(new_tree, missing_text="empty")
    assert len(kept) == 3
    assert kept[0]["report"] == ""
    assert kept.report.missing_text == ["train_1_a_1", "train_2_a_1"]


def test_labels_alone_and_files_alone(tree: Any) -> None:
    (tree.base / "radiology_text_reports" / "train_reports.csv").unlink()
    with pytest.raises(DatasetError, match="No reports table"):
        dataset(tree)
    labelled = dataset(tree, text=None)
    assert "report" not in labelled[0]
    assert "labels" in labelled[0]
    (tree.base / "multi_abnormality_labels" / "train_predicted_labels.csv").unlink()
    bare = dataset(tree, text=None, labels=False)
    assert len(bare) == 8
    assert not {"labels", "report"} & set(bare[0])


def test_missing_label_rows_are_nan_and_counted(tree: Any) -> None:
    tree.labels["train"].pop(0)
    tree.write()
    data = dataset(tree)
    assert data.report.missing_labels == ["train_1_a_1"]
    assert data[0]["labels"].isnan().all()
    assert not data[1]["labels"].isnan().any()


@pytest.mark.parametrize("cell", ["TODO_DATA_PATH/0", "", "2", "0.5"])
def test_label_cells_that_are_no_labels_are_never_zero(tree: Any, cell: str) -> None:
    tree.labels["train"][2][5] = cell
    tree.write()
    with pytest.raises(DatasetError, match=r"Coronary artery wall calcification.*train_1_b_1"):
        dataset(tree)


def test_label_column_missing(tree: Any, tree_module: Any) -> None:
    path = tree.base / "multi_abnormality_labels" / "train_predicted_labels.csv"
    tree_module.write_csv(path, ("VolumeName", *tree_module.LABELS[1:]), [row[:-1] for row in tree.labels["train"]])
    with pytest.raises(DatasetError, match="Medical material"):
        dataset(tree)


@pytest.mark.parametrize("line", ["train_2_a_1.nii.gz", "train/train_2/train_2_a/train_2_a_1.nii.gz", "train_2_a_1"])
def test_no_chest_lists(tree: Any, line: str) -> None:
    (tree.base / "metadata" / "no_chest_train.txt").write_text(f"{line}\n\n")
    data = dataset(tree)
    assert "train_2_a_1" not in ids(data)
    assert data.report.no_chest == ["train_2_a_1"]
    assert "train_2_a_1" in ids(dataset(tree, exclude_no_chest=False))


def test_absent_no_chest_list_is_said(tree: Any) -> None:
    assert dataset(tree).report.tables["no_chest"] == "no list found"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/train_7_a_1",
        "/etc/passwd",
        "train_07_a_1",
        "train_7_A_1",
        "valid_1_a_1",
        "x",
        "train_7_a_1.nii.gz/..",
    ],
)
def test_names_that_point_elsewhere_are_refused(tree: Any, name: str) -> None:
    tree.reports["train"].append([name, "", "", "Clear.", ""])
    tree.write()
    for check_files in (True, False):
        data = dataset(tree, check_files=check_files)
        assert data.report.bad_names == [name.removesuffix(".nii.gz")]
        assert len(data) == 8


def test_trusting_the_tables_needs_no_files(tree: Any) -> None:
    tree.add_rows("train_99_a_1", "train")
    tree.write()
    data = dataset(tree, check_files=False)
    assert len(data) == 9
    assert data[0]["volume_id"] == "train_1_a_1"
    with pytest.raises(VolumeError, match="train_99_a_1"):
        data[8]


def test_first_and_random_reconstructions(tree: Any) -> None:
    first = dataset(tree, recon_policy="first")
    assert ids(first)[:2] == ["train_1_a_1", "train_1_b_1"]
    assert len(first) == 7
    random = dataset(tree, recon_policy="random")
    assert len(random) == 7
    drawn = [random.sample(EpochIndex(0, epoch)).name.volume_id for epoch in range(30)]
    assert set(drawn) == {"train_1_a_1", "train_1_a_2"}
    assert drawn == [random.sample(EpochIndex(0, epoch)).name.volume_id for epoch in range(30)]
    assert random[EpochIndex(0, 3)]["volume_id"] == drawn[3]


def test_first_takes_the_lowest_that_exists(tree: Any) -> None:
    tree.path("train_1_a_1").unlink()
    assert ids(dataset(tree, recon_policy="first"))[0] == "train_1_a_2"


def test_extra_tables(tree: Any, tmp_path: Path, tree_module: Any) -> None:
    rows = [["train_1_a_1.nii.gz", "61", "smoker"], ["train_2_a_1", "", ""]]
    table = tree_module.write_csv(tmp_path / "extra.csv", ("VolumeName", "age", "note"), rows)
    frame = pd.DataFrame({"VolumeName": ["train_2_a_1.nii.gz"], "dose": [1.5]})
    data = dataset(tree, extra_tables={"clinic": table, "dose": frame})
    assert (data[0]["age"], data[0]["note"]) == (61.0, "smoker")
    assert np.isnan(data[0]["dose"])
    assert data[3]["dose"] == 1.5
    assert data[3]["note"] == ""
    assert np.isnan(data[5]["age"])
    assert data[5]["note"] == ""


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (("VolumeName", "report"), [["train_1_a_1", "x"]], "in use already"),
        (("VolumeName", "age"), [["train_1_a_1", "1"], ["train_1_a_1.nii.gz", "2"]], "more than once"),
        (("Series", "age"), [["train_1_a_1", "1"]], "no volume column"),
    ],
)
def test_bad_extra_tables(tree: Any, tmp_path: Path, tree_module: Any, columns: Any, rows: Any, message: str) -> None:
    table = tree_module.write_csv(tmp_path / "extra.csv", columns, rows)
    with pytest.raises(DatasetError, match=message):
        dataset(tree, extra_tables={"clinic": table})


def test_patients_and_exclude_are_counted(tree: Any) -> None:
    data = dataset(tree, patients=["train_1", "train_2"], exclude=["train_1_b_1.nii.gz"])
    assert ids(data) == ["train_1_a_1", "train_1_a_2", "train_2_a_1"]
    assert data.report.excluded == ["train_1_b_1"]
    assert len(data.report.other_patients) == 4


def test_duplicate_rows_and_files(tree: Any) -> None:
    tree.reports["train"].append(["train_2_a_1.nii.gz", "", "", "Second text.", ""])
    tree.write()
    elsewhere = tree.base / "train_fixed" / "train_99" / "train_99_a" / "train_2_a_1.nii.gz"
    elsewhere.parent.mkdir(parents=True)
    shutil.copy(tree.path("train_2_a_1"), elsewhere)
    data = dataset(tree)
    assert data.report.duplicate_rows == ["train_2_a_1"]
    assert data.report.duplicate_files == ["train_2_a_1"]
    assert data[3]["report"] == "Findings of train_2_a_1."


def test_empty_and_foreign_files(tree: Any) -> None:
    tree.path("train_2_a_1").write_bytes(b"")
    tree.path("train_3_a_1").with_name("mask.nii.gz").write_bytes(b"x")
    data = dataset(tree)
    assert data.report.empty_files == ["train_2_a_1"]
    assert data.report.bad_names == ["mask.nii.gz"]
    assert data.report.rows_without_file == []
    assert "train_2_a_1" not in ids(data)


def test_links_that_lead_nowhere_are_listed(tree: Any) -> None:
    path = tree.path("train_2_a_1")
    path.unlink()
    path.symlink_to(path.with_name("gone.nii.gz"))
    data = dataset(tree)
    assert data.report.unreadable_files == ["train_2_a_1"]
    assert data.report.rows_without_file == []
    assert "train_2_a_1" not in ids(data)


def test_an_empty_folder_does_not_hide_a_full_one(new_tree: Any) -> None:
    new_tree.add("train_1_a_1", version="v1")
    new_tree.write()
    (new_tree.base / "train_fixed" / "train_1").mkdir(parents=True)
    data = dataset(new_tree)
    assert data.report.version == "v1"
    assert ids(data) == ["train_1_a_1"]


def test_volumes_beside_the_inner_folder_are_found(tree: Any) -> None:
    shutil.move(tree.base / "train_fixed", tree.root / "train_fixed")
    assert len(ids(dataset(tree))) == 8
    assert len(ids(dataset(tree, "valid"))) == 3


def test_bad_volume_names_the_file_and_stays_as_it_is(tree: Any, tmp_path: Path) -> None:
    path = tree.path("train_1_a_1")
    path.write_bytes(path.read_bytes()[:200])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    data = dataset(tree, cache_dir=tmp_path / "cache")
    with pytest.raises(VolumeError, match="train_1_a_1"):
        data[0]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert not list((tmp_path / "cache").rglob("*train_1_a_1*"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"split": "test"}, ConfigError),
        ({"version": "v3"}, ConfigError),
        ({"recon_policy": "last"}, ConfigError),
        ({"text": "all"}, ConfigError),
        ({"missing_text": "keep"}, ConfigError),
        ({"preset": "nothing"}, ConfigError),
        ({"version": "v1"}, DatasetError),
    ],
)
def test_wrong_arguments(tree: Any, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        dataset(tree, **arguments)


def test_absent_root(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        CTRateDataset(tmp_path / "nowhere")


def test_broken_table(tree: Any) -> None:
    (tree.base / "radiology_text_reports" / "train_reports.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="Cannot read the table"):
        dataset(tree)


def test_subset_by_patient_and_pickle(tree: Any) -> None:
    data = dataset(tree)
    part = data.subset(["train_1"], recon_policy="first")
    assert ids(part) == ["train_1_a_1", "train_1_b_1"]
    assert len(data) == 8
    copy = pickle.loads(pickle.dumps(part))
    assert torch.equal(copy[0]["image"], part[0]["image"])


def test_augmentation_depends_on_epoch_and_index_alone(tree: Any) -> None:
    def add(item: dict[str, Any], seed: int) -> dict[str, Any]:
        return {**item, "drawn": seed}

    data = dataset(tree, augment=add)
    drawn = {(index, epoch): data[EpochIndex(index, epoch)]["drawn"] for index in range(3) for epoch in range(3)}
    assert len(set(drawn.values())) == 9
    assert all(data[EpochIndex(index, epoch)]["drawn"] == value for (index, epoch), value in drawn.items())
