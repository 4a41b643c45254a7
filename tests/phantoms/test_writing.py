"""Phantoms on disk: the layout of CT-RATE, twins, defects, resuming."""

from __future__ import annotations

import ast
import gzip
import json
import math
import re
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.phantoms import DEFECTS, LAYOUTS, SEGMENTATION_CLASSES, PhantomManifest, make_phantom, write_ct_rate
from ct_vlm.phantoms.schema import PhantomConfig
from ct_vlm.phantoms.writing import ct_rate
from ct_vlm.phantoms.writing.plan import plan_volumes
from ct_vlm.phantoms.writing.volume import write_volume
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (10, 12, 14)
COUNT = 16


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> PhantomManifest:
    root = tmp_path_factory.mktemp("phantoms") / "tree"
    return write_ct_rate(root, COUNT, shape=SHAPE, seed=4, defects=True, second_recon=0.5, workers=0)


def fixed(manifest: PhantomManifest, name: str, version: str = "_fixed") -> Path:
    split, patient, scan, _ = name.split("_")
    study = f"{split}_{patient}_{scan}"
    return manifest.root / "dataset" / f"{split}{version}" / f"{split}_{patient}" / study / f"{name}.nii.gz"


def by_defect(manifest: PhantomManifest, defect: str) -> str:
    return next(name for name, kind in manifest.defects.items() if kind == defect)


def table(manifest: PhantomManifest, name: str) -> pd.DataFrame:
    return pd.read_csv(manifest.root / "dataset" / name)


def test_count_and_names(tree: PhantomManifest) -> None:
    sound = [v for v in tree.volumes if v.defect is None]
    assert len(sound) == COUNT
    assert all(re.fullmatch(r"(train|valid)_[1-9][0-9]*_[a-z]_[1-9][0-9]*", v.name) for v in tree.volumes)
    assert len({v.name for v in tree.volumes}) == len(tree.volumes)
    assert (
        len({v.seed for v in tree.volumes if v.split == "train"} & {v.seed for v in tree.volumes if v.split == "valid"})
        == 0
    )


def test_v2_files_hold_the_phantom_in_lps(tree: PhantomManifest) -> None:
    for record in (tree.volumes[0], next(v for v in tree.volumes if v.recon == 1)):
        image = nib.load(fixed(tree, record.name))
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        assert image.get_data_dtype() == np.int16
        stored = np.asanyarray(image.dataobj)
        config = PhantomConfig.from_config(tree.arguments["config"])
        phantom = make_phantom(record.seed, record.shape, scan=record.scan, recon=record.recon, config=config)
        np.testing.assert_array_equal(stored.transpose(2, 1, 0)[::-1], phantom.volume)
        np.testing.assert_allclose(image.header.get_zooms(), phantom.spacing[::-1], rtol=1e-6)
        canonical = nib.as_closest_canonical(image)
        np.testing.assert_array_equal(
            np.asanyarray(canonical.dataobj).transpose(2, 1, 0)[::-1, ::-1, ::-1], phantom.volume
        )


def test_second_reconstruction_is_thicker_and_shares_the_report(tree: PhantomManifest) -> None:
    second = next(v for v in tree.volumes if v.recon == 1)
    first = next(v for v in tree.volumes if v.name == second.name[:-1] + "1")
    assert second.spacing[0] > first.spacing[0]
    assert second.findings_text == first.findings_text
    assert second.labels == first.labels


def test_v1_twins_give_the_same_hu_through_the_table(tree: PhantomManifest) -> None:
    rows = pd.concat([table(tree, f"metadata/{s}_metadata.csv") for s in ("train", "validation")]).set_index(
        "VolumeName"
    )
    intercepts = set()
    for record in (v for v in tree.volumes if v.defect is None):
        row = rows.loc[f"{record.name}.nii.gz"]
        raw = nib.load(fixed(tree, record.name, ""))
        assert not np.allclose(raw.header.get_zooms(), nib.load(fixed(tree, record.name)).header.get_zooms())
        values = np.asanyarray(raw.dataobj).astype(int) * int(row["RescaleSlope"]) + int(row["RescaleIntercept"])
        np.testing.assert_array_equal(values, np.asanyarray(nib.load(fixed(tree, record.name)).dataobj))
        intercepts.add(int(row["RescaleIntercept"]))
    assert intercepts == {-1024, -8192}


def test_tables_have_the_published_names_and_columns(tree: PhantomManifest) -> None:
    reports = table(tree, "radiology_text_reports/train_reports.csv")
    assert list(reports) == ["VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN"]
    labels = table(tree, "multi_abnormality_labels/valid_predicted_labels.csv").set_index("VolumeName")
    assert list(labels) == list(CT_RATE_LABELS)
    for record in (v for v in tree.volumes if v.split == "valid"):
        assert [n for n in labels if labels.loc[f"{record.name}.nii.gz", n] == 1] == record.labels
    metadata = table(tree, "metadata/validation_metadata.csv")
    assert len(metadata.columns) == 44
    record = next(v for v in tree.volumes if v.split == "valid")
    row = metadata.set_index("VolumeName").loc[f"{record.name}.nii.gz"]
    assert ast.literal_eval(row["XYSpacing"]) == [record.spacing[2], record.spacing[1]]
    assert row["ZSpacing"] == pytest.approx(record.spacing[0])
    assert (row["Rows"], row["Columns"], row["NumberofSlices"]) == (record.shape[1], record.shape[2], record.shape[0])
    assert re.fullmatch(r"\d{3}Y", row["PatientAge"])
    assert (tree.root / "dataset/metadata/no_chest_valid.txt").read_text() == ""


def test_masks_of_training_and_held_out_volumes(tree: PhantomManifest) -> None:
    folder = tree.root / "segmentation"
    index = json.loads((folder / "dataset.json").read_text())
    assert index["labels"] == {name: i for i, name in enumerate(SEGMENTATION_CLASSES)}
    names = {p.name.removesuffix(".nii.gz") for p in (folder / "labelsTr").iterdir()}
    assert names == {v.name for v in tree.volumes if v.split == "train" and v.defect is None}
    assert index["numTraining"] == len(names)
    held_out = {p.name.removesuffix(".nii.gz") for p in (folder / "labelsTs").iterdir()}
    assert held_out == {v.name for v in tree.volumes if v.split == "valid" and v.defect is None}
    record = next(v for v in tree.volumes if v.labels and v.split == "train")
    mask, image = nib.load(folder / "labelsTr" / f"{record.name}.nii.gz"), nib.load(fixed(tree, record.name))
    np.testing.assert_allclose(mask.affine, image.affine)
    present = set(np.unique(np.asanyarray(mask.dataobj)))
    assert {SEGMENTATION_CLASSES.index(name) for name in record.labels} <= present


def test_defects_are_listed_and_there(tree: PhantomManifest) -> None:
    assert sorted(tree.defects.values()) == sorted(DEFECTS)
    names = {defect: by_defect(tree, defect) for defect in DEFECTS}
    metadata = table(tree, "metadata/train_metadata.csv").set_index("VolumeName")
    reports = table(tree, "radiology_text_reports/train_reports.csv").set_index("VolumeName")
    assert math.isnan(metadata.loc[f"{names['nan_zspacing']}.nii.gz", "ZSpacing"])
    assert metadata.loc[f"{names['non_axial']}.nii.gz", "ImageOrientationPatient"] == "[1, 0, 0, 0, 0, -1]"
    assert (tree.root / "dataset/metadata/no_chest_train.txt").read_text().split() == [f"{names['head_ct']}.nii.gz"]
    assert f"{names['row_without_file']}.nii.gz" in reports.index
    assert not fixed(tree, names["row_without_file"]).exists()
    assert f"{names['file_without_row']}.nii.gz" not in reports.index
    assert fixed(tree, names["file_without_row"]).exists()
    assert reports.loc[f"{names['not_given']}.nii.gz", "Impressions_EN"] == "Not given."
    assert reports.loc[f"{names['nan_text']}.nii.gz", ["Findings_EN", "Impressions_EN"]].isna().all()


def test_defective_files(tree: PhantomManifest) -> None:
    def load(defect: str) -> nib.Nifti1Image:
        return nib.load(fixed(tree, by_defect(tree, defect)))

    assert fixed(tree, by_defect(tree, "empty_file")).stat().st_size == 0
    with pytest.raises(EOFError):
        gzip.decompress(fixed(tree, by_defect(tree, "truncated_gz")).read_bytes())
    assert load("four_d").ndim == 4
    assert load("int32").get_data_dtype() == np.int32
    assert np.isnan(load("nan_affine").affine).any()
    assert nib.aff2axcodes(load("non_axial").affine) == ("L", "I", "P")
    twice = np.asanyarray(load("double_rescaled").dataobj)
    assert np.percentile(twice, 0.5) < -1900
    head = np.asanyarray(load("head_ct").dataobj)
    assert not ((head > -950) & (head < -700)).mean() > 0.1


def test_coronal_series_holds_the_same_voxels(tree: PhantomManifest) -> None:
    name = by_defect(tree, "non_axial")
    record = next(v for v in tree.volumes if v.name == name)
    image = nib.as_closest_canonical(nib.load(fixed(tree, name)))
    config = PhantomConfig.from_config(tree.arguments["config"])
    phantom = make_phantom(record.seed, record.shape, config=config)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).transpose(2, 1, 0)[::-1, ::-1, ::-1], phantom.volume)
    np.testing.assert_allclose(image.header.get_zooms(), phantom.spacing[::-1], rtol=1e-6)


def test_resuming_completes_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(job: object) -> object:
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write_volume(job)

    monkeypatch.setattr(ct_rate, "write_volume", failing)
    arguments = {"shape": (6, 8, 8), "workers": 0, "seed": 2}
    with pytest.raises(KeyboardInterrupt):
        write_ct_rate(tmp_path / "a", 5, **arguments)
    monkeypatch.undo()
    assert not PhantomManifest.load(tmp_path / "a").complete
    resumed = write_ct_rate(tmp_path / "a", 5, **arguments)
    fresh = write_ct_rate(tmp_path / "b", 5, **arguments)
    assert resumed.volumes == fresh.volumes
    contents = [
        {p.relative_to(m.root): p.read_bytes() for p in m.root.rglob("*") if p.is_file()} for m in (resumed, fresh)
    ]
    assert contents[0] == contents[1]
    times = {p: p.stat().st_mtime_ns for p in resumed.root.rglob("*")}
    again = write_ct_rate(tmp_path / "a", 5, **arguments)
    assert again == resumed
    assert times == {p: p.stat().st_mtime_ns for p in resumed.root.rglob("*")}


def test_lost_volume_is_written_again(tmp_path: Path) -> None:
    manifest = write_ct_rate(tmp_path, 2, shape=(4, 6, 6), workers=0)
    lost = fixed(manifest, manifest.volumes[0].name)
    content = lost.read_bytes()
    lost.unlink()
    write_ct_rate(tmp_path, 2, shape=(4, 6, 6), workers=0)
    assert lost.read_bytes() == content


def test_foreign_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(DatasetError, match="not empty"):
        write_ct_rate(tmp_path / "mine", 2, shape=(4, 6, 6), workers=0)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(DatasetError, match="is a file"):
        write_ct_rate(tmp_path / "mine" / "thesis.txt", 2, workers=0)
    write_ct_rate(tmp_path / "tree", 2, shape=(4, 6, 6), workers=0)
    with pytest.raises(DatasetError, match="seed"):
        write_ct_rate(tmp_path / "tree", 2, shape=(4, 6, 6), seed=1, workers=0)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "phantoms.json").write_text("{")
    with pytest.raises(DatasetError, match="manifest"):
        write_ct_rate(tmp_path / "broken", 2, workers=0)


def test_pool_writes_the_same_files(tmp_path: Path) -> None:
    one = write_ct_rate(tmp_path / "one", 3, shape=(4, 6, 6), workers=0)
    two = write_ct_rate(tmp_path / "two", 3, shape=(4, 6, 6), workers=2)
    assert one.volumes == two.volumes
    files = [{p.relative_to(m.root): p.read_bytes() for p in m.root.rglob("*.nii.gz")} for m in (one, two)]
    assert files[0] == files[1]


def test_plan_has_repeats_and_keeps_counts() -> None:
    plans = plan_volumes(800, SHAPE, 0, valid_fraction=0.15, second_scan=0.15, second_recon=0.25)
    assert len(plans) == 800
    assert sum(p.split == "valid" for p in plans) == 120
    patients = {(p.split, p.patient) for p in plans}
    twice = {(p.split, p.patient) for p in plans if p.scan == 1}
    assert 0.09 < len(twice) / len(patients) < 0.21
    scans = {p.study for p in plans}
    assert 0.19 < sum(p.recon == 1 for p in plans) / len(scans) < 0.31
    assert len({p.name for p in plans}) == 800


@pytest.mark.parametrize(
    "arguments", [{"count": 0}, {"valid_fraction": 1.0}, {"second_scan": 2.0}, {"second_recon": -1.0}]
)
def test_bad_numbers_are_named(tmp_path: Path, arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="shares"):
        write_ct_rate(tmp_path / "tree", **({"count": 2, "workers": 0} | arguments))
    assert not (tmp_path / "tree").exists()


def test_layout_table() -> None:
    assert LAYOUTS["ct_rate"] is write_ct_rate
