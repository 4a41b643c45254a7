"""Two gloo processes: evaluation shows every sample once and gives the metrics of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("ddp_validation.py")


def run(root: Path, out: Path, world: int, batch_size: int) -> list[dict[str, Any]]:
    """Run the script and return what each process wrote."""
    out.mkdir()
    repository = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, str(SCRIPT), str(root), str(out), str(world), str(batch_size)],
        check=True,
        timeout=300,
        cwd=repository,
        env={"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2])
def test_two_processes_give_the_metrics_of_one(tree: Any, tmp_path: Path, batch_size: int) -> None:
    (one,) = run(tree.root, tmp_path / "one", 1, batch_size)
    two = run(tree.root, tmp_path / "two", 2, batch_size)
    for part in ("validate", "test", "predict"):
        assert sorted(two[0]["seen"][part] + two[1]["seen"][part]) == sorted(one["seen"][part])
        assert len(one["seen"][part]) % 2 == 1, "an even count would not show padding"
    assert set(two[0]["seen"]["train"] + two[1]["seen"]["train"]) == set(one["seen"]["train"])
    for name in ("score", "test_score"):
        assert two[0][name] == pytest.approx(one[name], rel=1e-6)
        assert two[1][name] == pytest.approx(one[name], rel=1e-6)
