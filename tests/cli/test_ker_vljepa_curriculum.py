"""The curriculum that the examples ship, at a minimal size: every phase, a stop in the middle, and reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from ct_vlm.cli.main import main
from ct_vlm.tasks import load_task

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"
TRAINED = ["phase1", "phase2", "phase3_cold", "phase3", "phase4"]
PHASES = ["phantoms", "ssl", "encoder", "embeddings", "language", *TRAINED]
SMALL = {
    "phantoms": {"count": 14, "shape": [8, 32, 32], "workers": 0, "progress": False},
    "ssl": {
        "trainer.max_steps": 2,
        "trainer.enable_progress_bar": False,
        "trainer.enable_model_summary": False,
        "trainer.accelerator": "cpu",
        "data.init_args.batch_size": 4,
    },
    "language": {"steps": 3, "vocab_size": 600, "phantoms": 4, "progress": False},
    "embeddings": {"progress": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The whole run, in two commands."""
    folder = tmp_path_factory.mktemp("ker")
    plan = yaml.safe_load((CONFIGS / "ker_vljepa_curriculum.yaml").read_text())
    for phase in plan["phases"]:
        phase["options"].update(SMALL.get(phase["name"], {}))
        if phase["name"] in {"phase3_cold", "phase3", "phase4"}:
            phase["options"]["model.init_args.generation"] = {"max_new_tokens": 6}
        if "config" in phase:
            phase["config"] = str(CONFIGS / phase["config"])
    # pretraining has other data, and takes no such options
    plan["options"]["data.init_args.data.init_args.batch_size"] = 4
    plan["options"]["data.init_args.data.init_args.data.init_args.val_fraction"] = 0.4
    file = folder / "plan.yaml"
    file.write_text(json.dumps(plan))
    small = {
        "trainer.max_epochs": 1,
        "trainer.limit_train_batches": 1,
        "trainer.limit_val_batches": 1,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.accelerator": "cpu",
    }
    settings = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    command = ["curriculum", "--config", str(file), "--out", str(folder / "out"), *settings]
    assert main([*command, "--until", "phase2"]) == 0
    assert main(command) == 0
    return folder / "out"


@pytest.mark.slow
def test_every_phase_runs_and_is_written_down(run) -> None:
    done = json.loads((run / "curriculum.json").read_text())["phases"]
    assert list(done) == PHASES
    assert all(Path(row["result"]).exists() for row in done.values())
    assert done["phase1"]["score"] is not None


@pytest.mark.slow
def test_parts_go_from_phase_to_phase(run) -> None:
    tasks = {name: load_task(run / name / "checkpoints" / "best.ckpt") for name in TRAINED}
    zones = [tasks["phase2"].visual.zones, *(tasks[n].connectors[0].zones for n in ("phase3_cold", "phase3", "phase4"))]
    for later in zones[1:]:
        for key, tensor in later.state_dict().items():
            assert torch.equal(tensor, zones[0].state_dict()[key]), key
    # phase 4 trains LoRA alone
    before, after = (tasks[name].decoder.state_dict() for name in ("phase3", "phase4"))
    changed = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert changed
    assert all("lora_" in key for key in changed)


@pytest.mark.slow
def test_a_second_start_trains_nothing(run, capsys) -> None:
    plan = ["curriculum", "--config", str(run.parent / "plan.yaml"), "--out", str(run), "--list"]
    assert main(plan) == 2
    assert "other settings" in capsys.readouterr().err
