"""The command as a process of its own: killed, interrupted, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ct_vlm.phantoms import write_ct_rate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]
_PATIENCE = 240


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms")
    write_ct_rate(root, 14, shape=(16, 32, 32), valid_fraction=0.1, masks=False, workers=0, progress=False)
    return root


@pytest.fixture
def start(phantoms: Path, tmp_path: Path, repository: Path):
    """Starts the command in a process group of its own, as a shell does."""

    def run(*arguments: str) -> subprocess.Popen[str]:
        fixed = ["--root", str(phantoms), "--preset", "uvlm", "--cache-dir", str(tmp_path / "cache")]
        return subprocess.Popen(
            [sys.executable, "-m", "ct_vlm", "preprocess", *fixed, "--split", "train", "--workers", "2", *arguments],
            env={**os.environ, "PYTHONPATH": str(repository)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


def wait_for(condition, what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def group_is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def counts(output: str) -> tuple[int, int]:
    words = next(line for line in output.splitlines() if " volumes made" in line).split()
    return int(words[1]), int(words[4])


@pytest.mark.parametrize("everyone", [False, True], ids=["command", "command and workers"])
def test_killed_runs_go_on_where_they_stopped(start, tmp_path: Path, phantoms: Path, cache_entries, everyone) -> None:
    cache = tmp_path / "cache"
    total = len(list(phantoms.rglob("train_fixed/**/*.nii.gz")))
    sources = {path: path.stat().st_mtime_ns for path in phantoms.rglob("*") if path.is_file()}
    first = start()
    wait_for(lambda: len(cache_entries(cache)) >= 3 or first.poll() is not None, "no entries")
    (os.killpg if everyone else os.kill)(first.pid, signal.SIGKILL)
    assert first.wait(_PATIENCE) == -signal.SIGKILL, "it was done too early"
    first.communicate()
    wait_for(lambda: group_is_empty(first.pid), "workers outlive the command")
    before = cache_entries(cache)
    assert 3 <= len(before) < total
    second = start()
    output, errors = second.communicate(timeout=_PATIENCE)
    assert second.returncode == 0, errors
    assert counts(output) == (total - len(before), len(before))
    after = cache_entries(cache)
    assert len(after) == total
    assert {name: after[name] for name in before} == before
    assert {path: path.stat().st_mtime_ns for path in sources} == sources


def test_interrupts_end_everything_cleanly(start, tmp_path: Path, cache_entries) -> None:
    process = start()
    wait_for(lambda: len(cache_entries(tmp_path / "cache")) >= 2 or process.poll() is not None, "no entries")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 130, errors
    assert errors.strip().endswith("interrupted")
    assert "Traceback" not in errors
    wait_for(lambda: group_is_empty(process.pid), "workers outlive the command")
    assert list((tmp_path / "cache").rglob(".tmp-*")) == []


def test_shards_at_once_fill_one_cache_and_one_report(start, tmp_path: Path, phantoms: Path, cache_entries) -> None:
    import json

    bad = sorted(phantoms.rglob("train_fixed/**/*.nii.gz"))[::4]
    contents = {path: path.read_bytes() for path in bad}
    try:
        for path in bad:
            path.write_bytes(b"no gzip")
        running = [start("--shard", f"{number}/2", "--workers", "1") for number in (1, 2)]
        ends = [process.communicate(timeout=_PATIENCE) for process in running]
        assert any(process.returncode == 1 for process in running), ends
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
    listed = [row["volume"] for row in json.loads((tmp_path / "cache/preprocess_report.json").read_text())["failures"]]
    assert listed == sorted(path.name.removesuffix(".nii.gz") for path in bad)
    total = len(list(phantoms.rglob("train_fixed/**/*.nii.gz")))
    assert len(cache_entries(tmp_path / "cache")) == total - len(bad)
