"""`ct-vlm shards`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("litdata", reason="the extra [stream] is not installed")

from ct_vlm.cli import main
from ct_vlm.datasets import ShardDataset

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def command(tree: Path, tmp_path: Path):
    """Calls the command over a copy of the tree, in this process."""
    shutil.copytree(tree, tmp_path / "copy")
    fixed = [str(tmp_path / "copy"), str(tmp_path / "out"), "--preset", "phantom", "--no-progress"]

    def call(*arguments: str) -> int:
        return main(["shards", *fixed, *arguments])

    return call


def test_writes_both_splits_once(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--cache-dir", str(tmp_path / "cache")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " written now" in line]
    assert [line.split(":")[0] for line in lines] == ["train", "valid"]
    counts = [len(ShardDataset(tmp_path / "out" / split)) for split in ("train", "valid")]
    assert sum(counts) == 4
    assert [int(line.split()[1]) for line in lines] == counts
    assert list((tmp_path / "cache").rglob("*.ctcache"))
    assert command("--split", "train") == 0
    assert ", 0 of them written now" in capsys.readouterr().out


def test_without_text_and_labels_in_parts(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--split", "train", "--text", "none", "--no-labels", "--volumes-per-file", "1")
    assert command(*options, "--shard", "1/2") == 0
    assert "no index yet" in capsys.readouterr().out
    assert command(*options, "--shard", "2/2") == 0
    assert {"report", "labels"}.isdisjoint(ShardDataset(tmp_path / "out/train")[0])


def test_bad_files_change_the_exit_code(command, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from ct_vlm.cli import shards

    for path in sorted((tmp_path / "copy").rglob("train_*.nii.gz"))[:2]:
        path.write_bytes(b"no volume")
    monkeypatch.setattr(shards, "_SHOWN_FAILURES", 1)
    assert command("--split", "train") == 1
    output = capsys.readouterr()
    assert "2 left out" in output.out
    assert "... and 1 more" in output.err
