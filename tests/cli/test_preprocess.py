"""`ct-vlm preprocess`."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from ct_vlm.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def command(tree: Path, tmp_path: Path):
    """Calls the command over a copy of the tree, in this process."""
    shutil.copytree(tree, tmp_path / "copy")
    fixed = ["--root", str(tmp_path / "copy"), "--preset", "phantom", "--cache-dir", str(tmp_path / "cache")]

    def call(*arguments: str) -> int:
        return main(["preprocess", *fixed, "--workers", "0", *arguments])

    return call


def truncate_first(tmp_path: Path) -> str:
    broken = sorted((tmp_path / "copy").rglob("train_*.nii.gz"))[0]
    broken.write_bytes(broken.read_bytes()[:200])
    return broken.name.removesuffix(".nii.gz")


def test_fills_the_cache_once(command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 0
    made = [line for line in capsys.readouterr().out.splitlines() if " volumes made" in line]
    assert [line.split(":")[0] for line in made] == ["train", "valid"]
    assert sum(int(line.split()[1]) for line in made) == 4
    assert command("--split", "valid") == 0
    second = capsys.readouterr().out
    assert "valid: 0 volumes made" in second
    assert "train:" not in second


def test_the_form_of_entries_is_a_choice(command, tmp_path: Path) -> None:
    sizes = {}
    for codec in ("uncompressed", "zstd"):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        assert command("--split", "valid", "--codec", codec) == 0
        sizes[codec] = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*.ctcache"))
    assert sizes["zstd"] < 0.9 * sizes["uncompressed"]


def test_bad_files_are_listed_and_change_the_exit_code(command, tmp_path: Path, capsys) -> None:
    name = truncate_first(tmp_path)
    assert command() == 1
    output = capsys.readouterr()
    assert "1 failed" in output.out
    assert f"  {name}: " in output.err
    assert "cache/preprocess_report.json" in output.err
    assert command() == 1
    assert "known and not tried again" in capsys.readouterr().out
    report = json.loads((tmp_path / "cache/preprocess_report.json").read_text())
    assert [row["volume"] for row in report["failures"]] == [name]


def test_only_the_first_failures_are_shown(command, tmp_path: Path, capsys, monkeypatch) -> None:
    from ct_vlm.cli import preprocess

    monkeypatch.setattr(preprocess, "_SHOWN_FAILURES", 1)
    for path in (tmp_path / "copy").rglob("train_*.nii.gz"):
        path.write_bytes(b"no gzip")
    assert command("--split", "train") == 1
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  train_")]
    assert len(shown) == 1


def test_stops_early_on_request(command, tmp_path: Path, capsys) -> None:
    truncate_first(tmp_path)
    assert command("--max-failures", "1") == 1
    output = capsys.readouterr()
    assert "Stopped early: 1 files failed" in output.err
    assert "valid" not in output.out


def test_shards_together_do_everything(command, capsys) -> None:
    counts = []
    for number in (1, 2):
        assert command("--split", "train", "--shard", f"{number}/2") == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if " volumes made" in line)
        counts.append([int(word) for word in line.split() if word.isdecimal()][:2])
    assert all(made > 0 and present == 0 for made, present in counts)
    assert command("--split", "train") == 0
    assert f"0 volumes made, {sum(made for made, _ in counts)} present" in capsys.readouterr().out


def test_dry_run_says_what_a_run_would_take_and_writes_nothing(command, tmp_path: Path, capsys) -> None:
    assert command("--dry-run", "--split", "train", "--measure", "2") == 0
    output = capsys.readouterr().out
    assert "0 present" in output
    assert "(2 measured)" in output
    assert [line.split()[0] for line in output.splitlines()[-3:]] == ["1", "8", "64"]
    assert not (tmp_path / "cache").exists()
    assert command("--split", "train") == 0
    capsys.readouterr()
    assert command("--dry-run", "--split", "train") == 0
    assert "0 to do (0 measured)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected", "code"),
    [
        (["--preset", "fantom"], "fantom", 1),
        (["--root", "no/such/tree"], "no/such/tree", 1),
        (["--shard", "0/4"], "count from 1", 1),
        (["--shard", "auto"], "SLURM_ARRAY_TASK_ID", 1),
        (["--workers", "many"], "many", 2),
        (["--timeout", "0"], "above 0", 2),
        (["--timeout", "5"], "workers=0", 1),
        (["--memory-per-worker", "nan"], "above 0", 2),
    ],
)
def test_names_what_is_wrong(command, capsys, monkeypatch, change: list[str], expected: str, code: int) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert command(*change) == code
    assert expected in capsys.readouterr().err


def test_ray_is_named_where_it_is_missing(command, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert command("--engine", "ray") == 1
    assert 'pip install "ct_vlm[cluster]"' in capsys.readouterr().err
