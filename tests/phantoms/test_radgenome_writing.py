"""Phantoms in the layout of RadGenome-ChestCT: tree, masks, tables, defects, resuming."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ct_vlm.errors import DatasetError
from ct_vlm.phantoms import LAYOUTS, RADGENOME_DEFECTS, PhantomManifest, make_phantom, write_ct_rate, write_radgenome
from ct_vlm.phantoms.schema import DEFAULT_PREVALENCE, FINDING_OFFSET, PhantomConfig
from ct_vlm.phantoms.writing import radgenome
from ct_vlm.phantoms.writing.plan import plan_volumes
from ct_vlm.phantoms.writing.radgenome_masks import ANATOMIES
from ct_vlm.phantoms.writing.radgenome_volume import RadGenomeJob, write_radgenome_volume
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (20, 24, 28)
COUNT = 12
COLUMNS = {
    "region_report": ["Volumename", "Anatomy", "Sentence"],
    "case_disorders": ["Volumename", "Disorders"],
    "vqa_abnormality": ["Volumename", "Anatomy", "Abnormality"],
    "vqa_location": ["Volumename", "Anatomy", "Abnormality"],
    "vqa_presence": ["Volumename", "Anatomy", "Finding", "Presence"],
    "vqa_size": ["Volumename", "Anatomy", "Abnormality", "Size"],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> PhantomManifest:
    root = tmp_path_factory.mktemp("phantoms") / "tree"
    config = PhantomConfig(prevalence={**DEFAULT_PREVALENCE, "Pleural effusion": 0.5})
    return write_radgenome(root, COUNT, shape=SHAPE, seed=3, defects=True, workers=0, config=config)


def table(manifest: PhantomManifest, kind: str, split: str = "train") -> pd.DataFrame:
    return pd.read_csv(manifest.root / f"dataset/radgenome_files/{split}_{kind}.csv")


def by_defect(manifest: PhantomManifest, defect: str) -> str:
    return next(name for name, kind in manifest.defects.items() if kind == defect)


def masks(manifest: PhantomManifest, name: str, level: str = "region") -> Path:
    return manifest.root / f"dataset/{name.partition('_')[0]}_{level}_mask/seg_{name}"


def canonical(path: Path) -> np.ndarray:
    """Return a stored L, P, S array as foot, back, left."""
    return np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0)[::-1]


def test_every_scan_has_one_reconstruction_in_a_folder_without_the_underscore(tree: PhantomManifest) -> None:
    assert len(tree.volumes) == COUNT + len(RADGENOME_DEFECTS)
    for record in tree.volumes:
        if record.defect == "row_without_file":
            continue
        split, patient, letter, recon = record.name.split("_")
        folder = f"dataset/{split}_preprocessed/{split}_{patient}/{split}_{patient}{letter}"
        assert recon == "1"
        assert (tree.root / folder / f"{record.name}.nii.gz").is_file()
    assert any(record.name.split("_")[2] == "b" for record in tree.volumes)
    assert {path.name for path in (tree.root / "dataset").iterdir()} == {
        f"{split}_{kind}" for split in ("train", "valid") for kind in ("preprocessed", "region_mask", "anatomy_mask")
    } | {"radgenome_files"}


def test_tables_have_the_published_names_and_columns(tree: PhantomManifest) -> None:
    files = sorted(path.name for path in (tree.root / "dataset/radgenome_files").iterdir())
    assert files == sorted(f"{split}_{kind}.csv" for split in ("train", "validation") for kind in COLUMNS)
    for kind, columns in COLUMNS.items():
        for split in ("train", "validation"):
            assert list(table(tree, kind, split).columns) == columns
    assert set(table(tree, "vqa_presence").Presence) == {"Yes.", "No."}
    assert table(tree, "vqa_size").Size.str.fullmatch(r"\d+ mm").all()
    labels = pd.read_csv(tree.root / "labels/train_predicted_labels.csv")
    assert list(labels.columns) == ["VolumeName", *CT_RATE_LABELS]


def test_top_level_rows_carry_the_text_of_a_region_and_deeper_ones_repeat_it(tree: PhantomManifest) -> None:
    rows = table(tree, "region_report")
    paths = set(rows.Anatomy.dropna())
    assert any(path.count("/") == 3 for path in paths)
    for record in tree.volumes:
        if record.split != "train" or record.defect is not None:
            continue
        own = rows[rows.Volumename == f"{record.name}.nii.gz"]
        top = own[own.Anatomy.notna() & ~own.Anatomy.astype(str).str.contains("/")]
        assert dict(zip(top.Anatomy, top.Sentence, strict=True)) == record.region_reports
        assert own[own.Anatomy.isna()].Sentence.tolist() == [record.findings_text]
        whole = " ".join(record.region_reports.values())
        assert all(part in whole for text in own.Sentence for part in text.split(". "))


def test_questions_agree_with_the_facts(tree: PhantomManifest) -> None:
    record = next(v for v in tree.volumes if v.defect is None and any(f["lobe"] for f in v.findings))
    split = "train" if record.split == "train" else "validation"
    finding = next(f for f in record.findings if f["lobe"])
    side, level, _ = finding["lobe"].split()
    path = f"lung/lung/{side} lung/{side} lung {level} lobe"
    for kind in ("vqa_location", "vqa_abnormality", "vqa_presence"):
        rows = table(tree, kind, split)
        own = rows[(rows.Volumename == f"{record.name}.nii.gz") & (rows.Anatomy == path)]
        assert finding["label"].lower() in own.iloc[:, 2].tolist()
    presence = table(tree, "vqa_presence", split)
    own = presence[presence.Volumename == f"{record.name}.nii.gz"]
    assert set(own[own.Presence == "Yes."].Finding) == {label.lower() for label in record.labels}
    assert not set(own[own.Presence == "No."].Finding) & {label.lower() for label in record.labels}
    assert (own.Presence == "No.").any()


def test_masks_are_those_of_the_phantom(tree: PhantomManifest) -> None:
    record = next(v for v in tree.volumes if v.defect is None and "Pleural effusion" in v.labels)
    config = PhantomConfig.from_config(tree.arguments["config"])
    phantom = make_phantom(record.seed, SHAPE, scan=record.scan, config=config)
    regions, lobes = masks(tree, record.name), masks(tree, record.name, "anatomy")
    assert sorted(path.name for path in lobes.iterdir()) == sorted(f"{name}.nii.gz" for name in ANATOMIES)
    volume = next((tree.root / "dataset").rglob(f"{record.name}.nii.gz"))
    lung = nib.load(regions / "lung.nii.gz")
    np.testing.assert_array_equal(lung.affine, nib.load(volume).affine)
    assert lung.get_data_dtype() == np.uint8
    whole = canonical(regions / "lung.nii.gz")
    parts = [canonical(lobes / f"{side} lung.nii.gz") for side in ("left", "right")]
    np.testing.assert_array_equal(whole, parts[0] | parts[1])
    assert (phantom.segmentation[whole > 0] != 0).all()
    organs = phantom.segmentation < FINDING_OFFSET
    np.testing.assert_array_equal(whole[organs], np.isin(phantom.segmentation[organs], range(1, 6)))
    effusion = phantom.segmentation == FINDING_OFFSET + CT_RATE_LABELS.index("Pleural effusion")
    assert canonical(regions / "pleura.nii.gz")[effusion].all()
    assert not whole[effusion].any()
    esophagus = canonical(regions / "esophagus.nii.gz") > 0
    assert canonical(regions / "mediastinum.nii.gz")[esophagus].all()
    assert esophagus.any()


def test_lateral_masks_lie_on_their_side(tree: PhantomManifest) -> None:
    for record in (v for v in tree.volumes if v.defect is None):
        folder = masks(tree, record.name, "anatomy")
        for organ in ("lung", "kidney"):
            left, right = (canonical(folder / f"{side} {organ}.nii.gz") for side in ("left", "right"))
            assert not (left & right).any()
            assert np.argwhere(left)[:, 2].mean() > np.argwhere(right)[:, 2].mean()


def test_breast_and_thyroid_masks_are_mostly_absent(tree: PhantomManifest) -> None:
    plans = plan_volumes(200, SHAPE, 0, valid_fraction=0.1, second_scan=0.1, second_recon=0.0)
    jobs = [RadGenomeJob(tree.root, plan, PhantomConfig(), masks=True) for plan in plans]
    found = Counter(name for job in jobs for level, name in job.mask_names().values() if level == "region")
    for region in RADGENOME_REGIONS:
        assert 1 <= found[region] <= 25 if region in {"breast", "thyroid"} else found[region] == 200
    assert any("thyroid" in record.region_reports for record in tree.volumes)


def test_defects_are_listed_and_there(tree: PhantomManifest) -> None:
    assert sorted(tree.defects.values()) == sorted(RADGENOME_DEFECTS)
    lung = {defect: masks(tree, by_defect(tree, defect)) / "lung.nii.gz" for defect in RADGENOME_DEFECTS}
    assert nib.load(lung["mask_shape"]).shape == (28, 24, 19)
    volume = next((tree.root / "dataset").rglob(f"{by_defect(tree, 'mask_affine')}.nii.gz"))
    shift = nib.load(lung["mask_affine"]).affine - nib.load(volume).affine
    np.testing.assert_allclose(shift[2, 3], 3 * 300 / SHAPE[0], rtol=1e-5)
    assert not canonical(lung["empty_mask"]).any()
    assert np.unique(canonical(lung["mask_labels"])).tolist() == [0, 1, 2]
    assert not lung["missing_mask"].exists()
    assert not lung["missing_folder"].parent.exists()
    assert "Lung.nii.gz" in {path.name for path in lung["mask_casing"].parent.iterdir()}
    with pytest.raises((OSError, EOFError)):
        canonical(lung["truncated_mask"])
    rows = table(tree, "region_report")
    own = {defect: rows[rows.Volumename == f"{by_defect(tree, defect)}.nii.gz"] for defect in RADGENOME_DEFECTS}
    assert "Lung" in own["anatomy_casing"].Anatomy.tolist()
    assert own["nan_sentence"].set_index("Anatomy").Sentence.isna()["lung"]
    assert own["duplicate_rows"].duplicated().sum() * 2 == len(own["duplicate_rows"])
    assert own["conflicting_rows"].Anatomy.tolist().count("lung") == 2
    assert own["file_without_row"].empty
    assert not own["row_without_file"].empty
    assert not list((tree.root / "dataset").rglob(f"*{by_defect(tree, 'row_without_file')}*"))


def test_resuming_completes_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(job: object) -> object:
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write_radgenome_volume(job)

    monkeypatch.setattr(radgenome, "write_radgenome_volume", failing)
    arguments = {"shape": (6, 8, 8), "workers": 0, "seed": 2}
    with pytest.raises(KeyboardInterrupt):
        write_radgenome(tmp_path / "a", 5, **arguments)
    monkeypatch.undo()
    assert not PhantomManifest.load(tmp_path / "a").complete
    (tmp_path / "a/dataset/train_region_mask/seg_train_1_a_1/bone.nii.gz").unlink()
    resumed = write_radgenome(tmp_path / "a", 5, **arguments)
    fresh = write_radgenome(tmp_path / "b", 5, **arguments)
    contents = [
        {p.relative_to(m.root): p.read_bytes() for p in m.root.rglob("*") if p.is_file()} for m in (resumed, fresh)
    ]
    assert contents[0] == contents[1]
    times = {p: p.stat().st_mtime_ns for p in resumed.root.rglob("*")}
    assert write_radgenome(tmp_path / "a", 5, **arguments) == resumed
    assert times == {p: p.stat().st_mtime_ns for p in resumed.root.rglob("*")}


def test_a_tree_of_the_other_layout_is_refused(tmp_path: Path) -> None:
    write_ct_rate(tmp_path, 1, shape=(4, 6, 6), workers=0)
    with pytest.raises(DatasetError, match="other arguments"):
        write_radgenome(tmp_path, 1, shape=(4, 6, 6), workers=0)


def test_pool_writes_the_same_files(tmp_path: Path) -> None:
    one = write_radgenome(tmp_path / "one", 3, shape=(4, 6, 6), workers=0)
    two = write_radgenome(tmp_path / "two", 3, shape=(4, 6, 6), workers=2)
    files = [{p.relative_to(m.root): p.read_bytes() for p in m.root.rglob("*.nii.gz")} for m in (one, two)]
    assert files[0] == files[1]


def test_masks_can_be_left_out(tmp_path: Path) -> None:
    manifest = write_radgenome(tmp_path, 2, shape=(4, 6, 6), masks=False, workers=0)
    assert not list(manifest.root.glob("dataset/*_mask"))


def test_layout_table() -> None:
    assert LAYOUTS["radgenome"] is write_radgenome
