"""`ct-vlm attributes`: text, table, JSON and messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.attributes import PatientAttributes, parse_attributes
from ct_vlm.cli import main
from ct_vlm.phantoms import write_radgenome

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]

AFFINE = np.diag([-2.0, -2.0, 5.0, 1.0])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A scan, a label map with two lungs and a nodule, and its names."""
    labels = np.zeros((40, 30, 20), np.uint8)
    labels[4:14, 5:25, 3:17], labels[24:36, 5:25, 3:17], labels[28:32, 10:14, 8:10] = 1, 2, 3
    nib.save(nib.Nifti1Image(np.full(labels.shape, -900, np.int16), AFFINE), tmp_path / "scan_1.nii.gz")
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "labels.nii.gz")
    (tmp_path / "map.json").write_text(json.dumps({"1": "right lung", "2": "left lung", "3": "lung_nodules"}))
    (tmp_path / "parts").mkdir()
    for name, value in (("right lung", 1), ("left lung", 2), ("lung_nodules", 3), ("spleen", 9)):
        part = nib.Nifti1Image((labels == value).astype(np.uint8), AFFINE)
        nib.save(part, tmp_path / "parts" / f"{name}.nii.gz")
    return {name: tmp_path / name for name in ("scan_1.nii.gz", "labels.nii.gz", "map.json", "parts", "out.json")}


def test_text_table_and_json(files: dict[str, Path], capsys: Capture) -> None:
    scan, labels, names = (str(files[name]) for name in ("scan_1.nii.gz", "labels.nii.gz", "map.json"))
    out = files["out.json"]
    assert main(["attributes", "--volume", scan, "--masks", labels, "--labels", names, "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    text, _, table = shown.partition("\n")
    assert parse_attributes(text).nodules.lesions[0].place == "left lung"
    assert "Right lung: 56 mL." in text
    assert "lung nodule 1" in table
    assert "middle third" in table
    saved = PatientAttributes.load(out)
    assert (saved.volume_id, saved.provenance.kind) == ("scan_1", "pseudo")
    assert saved.nodules.lesions[0].slice_index in (8, 9)


def test_a_folder_of_masks_gives_the_same_text(files: dict[str, Path], capsys: Capture) -> None:
    scan, labels, names = (str(files[name]) for name in ("scan_1.nii.gz", "labels.nii.gz", "map.json"))
    assert main(["attributes", "--volume", scan, "--masks", labels, "--labels", names]) == 0
    expected = capsys.readouterr().out
    assert main(["attributes", "--volume", scan, "--masks", str(files["parts"]), "--reference"]) == 0
    assert capsys.readouterr().out == expected


def test_messages(files: dict[str, Path], capsys: Capture) -> None:
    scan, labels, names = (str(files[name]) for name in ("scan_1.nii.gz", "labels.nii.gz", "map.json"))
    assert main(["attributes", "--volume", scan, "--masks", labels]) == 1
    assert "its values have no names" in capsys.readouterr().err
    other = np.diag([-2.0, -2.0, 4.0, 1.0])
    nib.save(nib.Nifti1Image(np.zeros((40, 30, 20), np.int16), other), files["out.json"].with_name("other.nii.gz"))
    moved = str(files["out.json"].with_name("other.nii.gz"))
    assert main(["attributes", "--volume", moved, "--masks", labels, "--labels", names]) == 1
    assert "voxels beside the grid" in capsys.readouterr().err
    absent = ["--json", str(files["parts"] / "no" / "a.json")]
    assert main(["attributes", "--volume", scan, "--masks", labels, "--labels", names, *absent]) == 2
    assert "Cannot write" in capsys.readouterr().err
    assert main(["attributes", "--volume", scan]) == 2


def test_a_whole_download_is_measured_and_failures_are_named(tmp_path: Path, capsys: Capture) -> None:
    write_radgenome(tmp_path / "tree", 3, shape=(10, 12, 12), seed=4, valid_fraction=0.34, workers=0, progress=False)
    arguments = ["attributes", "--radgenome", str(tmp_path / "tree"), "--out", str(tmp_path / "out"), "--workers", "0"]
    broken = sorted((tmp_path / "tree/dataset/train_anatomy_mask").iterdir())[0]
    (broken / "heart.nii.gz").write_bytes(b"no mask")
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert "2 measured, 0 were there, 1 failed" in shown.out
    assert broken.name.removeprefix("seg_") in shown.err
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 2
    assert all(PatientAttributes.load(file).volume_id == file.stem for file in files)
    assert main([*arguments, "--split", "valid"]) == 0
    assert "0 measured, 1 were there, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "`--volume` and `--masks` are needed"),
        (("--radgenome", "."), "needs `--out`"),
        (("--radgenome", ".", "--out", "o", "--volume", "v"), "takes no `--volume`"),
        (("--volume", "v", "--masks", "m", "--out", "o"), "belong to `--radgenome`"),
    ],
)
def test_options_of_one_scan_and_of_a_download_do_not_mix(arguments: tuple, message: str, capsys: Capture) -> None:
    assert main(["attributes", *arguments]) == 2
    assert message in capsys.readouterr().err
