"""`ct-vlm generate` on a checkpoint and a volume, and on everything that can be wrong with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from ct_vlm import __version__
from ct_vlm.cli import main
from ct_vlm.component import CONFIG_NAME

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ["--max-new-tokens", "4", "--device", "cpu"]


def generate(checkpoint: Path | str, volume: Path, *options: str) -> int:
    return main(["generate", "--checkpoint", str(checkpoint), "--volume", str(volume), *SHORT, *options])


def save_volume(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    return path


def test_report_goes_to_stdout_and_its_origin_to_json(checkpoint: Path, scan: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "new" / "report.json"
    assert generate(checkpoint, scan, "--out", str(target)) == 0
    record = json.loads(target.read_text())
    assert capsys.readouterr().out == record["report"] + "\n"
    assert record["volume"]["path"] == str(scan)
    assert record["volume"]["shape"] == [16, 24, 24]
    assert record["volume"]["hu_provenance"]["hu_source"] == "fixed"
    assert record["checkpoint"] == str(checkpoint)
    assert record["preset"]["name"] == "phantom"
    assert record["generation"] == {"max_new_tokens": 4}
    assert record["versions"]["ct_vlm"] == __version__


def test_volume_and_checkpoint_are_only_read(checkpoint: Path, scan: Path) -> None:
    files = [scan, *checkpoint.iterdir()]
    before = [file.read_bytes() for file in files]
    assert generate(checkpoint, scan) == 0
    assert [file.read_bytes() for file in files] == before


def test_greedy_reports_repeat_and_sampling_follows_its_seed(checkpoint: Path, scan: Path, capsys) -> None:
    def report(*options: str) -> str:
        assert generate(checkpoint, scan, *options) == 0
        return capsys.readouterr().out

    assert report() == report("--num-beams", "1")
    drawn = ["--do-sample", "--temperature", "5", "--seed"]
    assert report(*drawn, "1") == report(*drawn, "1")
    assert report(*drawn, "1") != report(*drawn, "2")


def test_trainer_checkpoint_works_alone(checkpoint: Path, scan: Path, tmp_path: Path, capsys) -> None:
    import torch

    from ct_vlm.models import VisionLanguageModel
    from ct_vlm.tasks import ReportLightningModule

    task = ReportLightningModule.from_model(VisionLanguageModel.from_pretrained(checkpoint))
    saved = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "last.ckpt")
    assert generate(checkpoint, scan) == 0
    from_folder = capsys.readouterr().out
    assert generate(tmp_path / "last.ckpt", scan) == 0
    assert capsys.readouterr().out == from_folder


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("text.nii.gz", lambda path, scan: path.write_text("This is no volume.")),
        ("cut.nii.gz", lambda path, scan: path.write_bytes(scan.read_bytes()[:-2000])),
        ("nan.nii.gz", lambda path, scan: save_volume(path, np.full((8, 8, 8), np.nan, np.float32))),
        ("time.nii.gz", lambda path, scan: save_volume(path, np.zeros((8, 8, 8, 3), np.int16))),
        ("empty.nii.gz", lambda path, scan: path.write_bytes(b"")),
        (
            "twice.nii.gz",
            lambda path, scan: save_volume(path, (np.asarray(nib.load(scan).dataobj) - 1024).astype(np.int16)),
        ),
        ("absent.nii.gz", lambda path, scan: None),
    ],
)
def test_bad_volumes_are_named_errors(checkpoint: Path, scan: Path, tmp_path: Path, capsys, name: str, make) -> None:
    path = tmp_path / name
    make(path, scan)
    assert generate(checkpoint, path) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert name in output.err
    assert len(output.err.splitlines()) >= 2, "cause and cure"


def test_real_scans_are_read(checkpoint: Path, shared_data: Path, capsys) -> None:
    for name in ("cip/chest_ct64.nii.gz", "totalsegmentator/aorta_report/ct_cropped.nii.gz"):
        assert generate(checkpoint, shared_data / name) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        (["--checkpoint", "no/such/folder"], 1, "no/such/folder"),
        (["--checkpoint", "absent.ckpt"], 1, "absent.ckpt"),
        (["--out", "report.txt"], 2, "report.txt"),
        (["--out", "scan.nii.gz"], 2, "scan.nii.gz"),
        (["--device", "cuda:99"], 2, "cuda:99"),
        (["--device", "toaster"], 2, "toaster"),
        (["--num-beams", "0"], 2, "--num-beams"),
        (["--temperature", "-1", "--do-sample"], 1, "temperature"),
        (["--hu-source", "guess"], 2, "guess"),
    ],
)
def test_wrong_options(checkpoint: Path, scan: Path, capsys, change: list[str], code: int, expected: str) -> None:
    assert generate(checkpoint, scan, *change) == code
    assert expected in capsys.readouterr().err


def test_checkpoint_of_another_model_is_refused(scan: Path, tmp_path: Path, capsys) -> None:
    from ct_vlm.models import u_vlm_encoder

    assert generate(u_vlm_encoder("tiny").save_pretrained(tmp_path), scan) == 1
    assert "ResidualUNetEncoder" in capsys.readouterr().err


def test_checkpoint_without_preset_says_so(checkpoint: Path, scan: Path, tmp_path: Path, capsys) -> None:
    import shutil

    shutil.copytree(checkpoint, tmp_path / "copy")
    file = tmp_path / "copy" / CONFIG_NAME
    config = json.loads(file.read_text())
    config["init_args"]["preset"] = None
    file.write_text(json.dumps(config))
    assert generate(tmp_path / "copy", scan) == 1
    assert "preset" in capsys.readouterr().err
