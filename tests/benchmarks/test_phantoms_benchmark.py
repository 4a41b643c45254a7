"""The phantom benchmark runs and prints what it measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.phantoms", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_each_grid_gets_a_line_with_positive_rates() -> None:
    ended = run("--shape", "8", "12", "12", "--shape", "12", "8", "8", "--most", "2", "--budget", "60")
    assert ended.returncode == 0, ended.stderr
    head, *rows = (line.split() for line in ended.stdout.splitlines())
    assert head == ["grid", "phantoms", "drawn/s/core", "described/s/core"]
    assert [row[:2] for row in rows] == [["8x12x12", "2"], ["12x8x8", "2"]]
    assert all(float(value) > 0 for row in rows for value in row[2:])


def test_at_least_one_phantom_is_made() -> None:
    ended = run("--shape", "8", "8", "8", "--budget", "0")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[1].split()[:2] == ["8x8x8", "1"]


def test_a_wrong_grid_is_a_usage_error() -> None:
    assert run("--shape", "8", "0", "8").returncode == 2
