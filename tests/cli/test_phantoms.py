"""`ct-vlm phantoms`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from ct_vlm.cli import main
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    from pathlib import Path


def test_phantoms_are_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["phantoms", "--out", str(tmp_path), "--count", "3", "--shape", "8", "12", "12", "--workers", "0"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"3 volumes in {tmp_path}\n"
    assert len(list((tmp_path / "dataset").rglob("*.nii.gz"))) == 3


def test_same_seed_same_files_and_another_seed_others(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        folder = tmp_path / name
        assert main(["phantoms", "--out", str(folder), "--count", "1", "--shape", "8", "8", "8", "--seed", seed]) == 0
        contents.append(b"".join(file.read_bytes() for file in sorted((folder / "dataset").rglob("*.nii.gz"))))
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_defects_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ct_vlm.phantoms import DEFECTS

    arguments = ["phantoms", "--out", str(tmp_path), "--count", "2", "--shape", "8", "12", "12", "--defects"]
    assert main([*arguments, "--workers", "0"]) == 0
    assert f"{len(DEFECTS)} of them defective" in capsys.readouterr().out


def test_folder_with_other_content_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["phantoms", "--out", str(tmp_path), "--count", "1", "--shape", "8", "8", "8"]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_counts_are_positive_integers(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        positive(text)
    assert main(["phantoms", "--out", "unused", f"--count={text}"]) == 2


def test_every_layout_can_be_named() -> None:
    from ct_vlm.cli import phantoms
    from ct_vlm.phantoms import LAYOUTS

    parser = argparse.ArgumentParser()
    phantoms.add_arguments(parser)
    choices = next(action.choices for action in parser._actions if action.dest == "layout")
    assert set(choices) == set(LAYOUTS)


def test_radgenome_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ct_vlm.phantoms import RADGENOME_DEFECTS

    arguments = [
        "phantoms",
        "--layout",
        "radgenome",
        "--out",
        str(tmp_path),
        "--count",
        "2",
        "--shape",
        "8",
        "12",
        "12",
    ]
    assert main([*arguments, "--defects", "--workers", "0"]) == 0
    assert f"{len(RADGENOME_DEFECTS)} of them defective" in capsys.readouterr().out
    assert (tmp_path / "dataset/train_region_mask/seg_train_1_a_1/lung.nii.gz").is_file()
    assert main([*arguments, "--layout", "ct_rate"]) == 1
