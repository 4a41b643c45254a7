"""The three stages of U-VLM through the command line, from the shipped YAML files."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from ct_vlm.cli.main import main
from ct_vlm.tasks import load_task

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"


def run(command: str, config: str, phantoms: Path, out: Path, *more: str) -> int:
    arguments = [
        *(command, "--config", str(CONFIGS / config), "--data.init_args.root", str(phantoms)),
        *("--data.init_args.cache_dir", str(phantoms / "cache"), "--data.init_args.batch_size", "2"),
        *("--trainer.default_root_dir", str(out), "--trainer.accelerator", "cpu", "--trainer.max_steps", "2"),
        *("--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--trainer.devices", "1"),
        *("--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "2"),
        *("--trainer.num_sanity_val_steps", "0"),
    ]
    if "report" in config:
        reports = phantoms / "dataset" / "radiology_text_reports" / "train_reports.csv"
        tokenizer = json.dumps({"train_on": str(reports), "vocab_size": 400})
        arguments += ["--model.init_args.decoder.init_args.tokenizer", tokenizer]
        arguments += ["--model.init_args.generation.max_new_tokens", "8"]
    return main([*arguments, *more])


def last(folder: Path) -> Path:
    return next(iter(sorted(folder.rglob("*.ckpt"))))


@pytest.fixture(scope="module")
def stages(phantoms, tmp_path_factory) -> list[Path]:
    """Checkpoints of the three stages, each started from the one before."""
    out = tmp_path_factory.mktemp("runs")
    assert run("fit", "u_vlm_1_segmentation.yaml", phantoms, out / "1") == 0
    one = last(out / "1")
    second = json.dumps({"encoder": str(one), "head.presence": f"{one}#presence"})
    assert run("fit", "u_vlm_2_classification.yaml", phantoms, out / "2", "--model.init_args.init_from", second) == 0
    two = last(out / "2")
    third = json.dumps({"encoder": str(two), "connectors.1.head": f"{two}#head"})
    assert run("fit", "u_vlm_3_report.yaml", phantoms, out / "3", "--model.init_args.init_from", third) == 0
    return [one, two, last(out / "3")]


def test_each_stage_hands_its_encoder_to_the_next(stages):
    tasks = [load_task(path) for path in stages]
    head = tasks[2].connectors[1].head
    assert all(v.equal(tasks[1].head.state_dict()[k]) for k, v in head.state_dict().items())
    for key, value in tasks[2].encoder.state_dict().items():
        assert value.equal(tasks[1].encoder.state_dict()[key]), key


def test_checkpoints_rebuild_without_the_files_they_came_from(stages):
    checkpoint = torch.load(stages[2], weights_only=True)
    assert checkpoint["ct_vlm"]["config"]["init_args"]["init_from"] is None
    assert "tokenizer_json" in json.dumps(checkpoint["ct_vlm"]["config"])
    assert str(stages[1]) not in json.dumps(checkpoint["ct_vlm"]["config"])


@pytest.mark.parametrize(
    ("number", "config"),
    [(0, "u_vlm_1_segmentation.yaml"), (1, "u_vlm_2_classification.yaml"), (2, "u_vlm_3_report.yaml")],
)
def test_every_stage_tests_from_its_checkpoint(number, config, stages, phantoms, tmp_path, capsys):
    assert run("test", config, phantoms, tmp_path, "--ckpt_path", str(stages[number])) == 0
    assert ["test/dice", "test/macro_auroc", "test/micro_f1"][number] in capsys.readouterr().out


def test_predict_writes_one_row_a_volume(stages, phantoms, tmp_path):
    table = tmp_path / "reports.csv"
    writer = json.dumps({"class_path": "ReportWriter", "init_args": {"path": str(table)}})
    arguments = ["--ckpt_path", str(stages[2]), "--trainer.callbacks+", writer]
    assert run("predict", "u_vlm_3_report.yaml", phantoms, tmp_path, *arguments) == 0
    rows = pd.read_csv(table)
    held_out = phantoms.glob("dataset/valid_fixed/*/*/*.nii.gz")
    assert sorted(rows.volume_id) == sorted(path.name.split(".")[0] for path in held_out)
    assert "prediction" in rows


def test_generate_needs_the_checkpoint_alone(stages, phantoms, tmp_path):
    scan = next(phantoms.glob("dataset/valid_fixed/*/*/*.nii.gz"))
    out = tmp_path / "report.json"
    arguments = ["--checkpoint", str(stages[2]), "--volume", str(scan), "--out", str(out), "--max-new-tokens", "6"]
    assert main(["generate", *arguments]) == 0
    assert json.loads(out.read_text())["report"] is not None
