from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from ct_vlm.cli.curriculum import running
from ct_vlm.cli.curriculum.processes import processes_of
from ct_vlm.cli.curriculum.state import PhaseResult
from ct_vlm.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

PLAN = """
phases:
  - {name: prepare, call: package.function}
  - {name: first, config: fit.yaml}
  - {name: between, call: package.function, options: {source: "{first}"}}
  - {name: second, config: fit.yaml, options: {model.init_args.init_from: {layer: "{between}"}}}
"""
NAMES = ["prepare", "first", "between", "second"]
VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "MASTER_ADDR")


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the phases that ran; nothing is trained."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "fit.yaml").write_text("trainer: {max_epochs: 1}")
    (tmp_path / "plan.yaml").write_text(PLAN)
    names: list[str] = []

    def run_phase(phase, folder, known):
        assert known.keys() == {"out", *NAMES[: NAMES.index(phase.name)]}
        names.append(phase.name)
        if phase.config:
            # as Lightning's launcher does, unless the variables are there
            os.environ.setdefault("LOCAL_RANK", "0")
            os.environ["WORLD_SIZE"] = "2"
        else:
            assert "LOCAL_RANK" not in os.environ
        return PhaseResult(phase.digest(), str(folder), None, 0.0)

    monkeypatch.setattr(running, "run_phase", run_phase)
    return names


def curriculum(*more: str) -> int:
    return main(["curriculum", "--config", "plan.yaml", "--out", "run", *more])


def done(folder: Path) -> list[str]:
    file = folder / "run" / "curriculum.json"
    return list(json.loads(file.read_text())["phases"]) if file.is_file() else []


def test_processes_that_a_phase_started_are_unknown_to_the_next(ran, tmp_path) -> None:
    assert curriculum() == 0
    assert ran == NAMES
    assert done(tmp_path) == NAMES
    assert not {"LOCAL_RANK", "WORLD_SIZE", "CT_VLM_CURRICULUM_PHASE"} & set(os.environ)


def test_a_process_that_lightning_started_takes_part_in_one_phase(ran, tmp_path, monkeypatch, capsys) -> None:
    assert curriculum("--until", "prepare") == 0
    ran.clear()
    capsys.readouterr()
    with processes_of("first"):
        for name, value in {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        assert curriculum() == 0
    assert ran == ["first"]
    assert done(tmp_path) == ["prepare"]
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"},
        {"NODE_RANK": "1"},
    ],
)
def test_functions_are_refused_under_a_launcher(ran, tmp_path, monkeypatch, capsys, variables) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert curriculum() == 2
    error = capsys.readouterr().err
    assert "one of several: prepare, between" in error
    assert "--until" in error
    assert not ran
    assert not (tmp_path / "run").exists()
    assert curriculum("--list") == 0


@pytest.mark.parametrize("rank", ["0", "1"])
def test_under_a_launcher_all_train_and_one_writes(ran, tmp_path, monkeypatch, capsys, rank) -> None:
    assert curriculum("--until", "between") == 0
    ran.clear()
    capsys.readouterr()
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert curriculum() == 0
    assert ran == ["second"]
    assert done(tmp_path) == (NAMES if rank == "0" else NAMES[:-1])
    assert ("second" in capsys.readouterr().out) == (rank == "0")
    assert os.environ["LOCAL_RANK"] == rank
