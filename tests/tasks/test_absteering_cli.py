"""Both stages of AbSteering through the command line, from the shipped YAML files, for both backbones."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ct_vlm.cli.main import main
from ct_vlm.datasets.preferences import read_preferences
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.phantoms import write_ct_rate
from ct_vlm.tasks import load_task
from ct_vlm.text import STEERING_PROMPT

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"
BACKBONES = {"qwen": "qwen2_5_vl", "internvl": "internvl"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A small tree of phantoms."""
    root = tmp_path_factory.mktemp("absteering") / "tree"
    write_ct_rate(root, 8, shape=(12, 24, 24), seed=5, valid_fraction=0.25, workers=0, progress=False)
    return root


@pytest.fixture(scope="module", params=["qwen", pytest.param("internvl", marks=pytest.mark.slow)])
def stages(request, tree, tmp_path_factory):
    """Name of the files, checkpoint folder, pairs, and checkpoints of both stages."""
    name, out = request.param, tmp_path_factory.mktemp(request.param)
    texts = pd.read_csv(tree / "dataset/radiology_text_reports/train_reports.csv").Findings_EN
    folder = write_tiny_video_lm(out / "lm", BACKBONES[name], [STEERING_PROMPT, *texts], vocab_size=400)
    assert run("fit", f"absteering_1_{name}.yaml", tree, folder, out / "1") == 0
    one = next((out / "1").rglob("*.ckpt"))
    pairs = out / "pairs.jsonl"
    assert main(["preferences", "--root", str(tree), "--out", str(pairs), "--insert", "--no-progress"]) == 0
    source = json.dumps({"encoder": str(one), "decoder": str(one)})
    more = ("--model.init_args.init_from", source, "--data.init_args.pairs", str(pairs))
    assert run("fit", f"absteering_2_{name}.yaml", tree, folder, out / "2", *more) == 0
    return name, folder, pairs, one, next((out / "2").rglob("*.ckpt"))


def run(command: str, config: str, tree: Path, folder: Path, out: Path, *more: str) -> int:
    data = "--data.init_args.data.init_args" + (".data.init_args" if "_2_" in config else "")
    arguments = [
        *(command, "--config", str(CONFIGS / config)),
        *(f"{data}.root", str(tree), f"{data}.cache_dir", str(tree.parent / "cache")),
        *(f"{data}.batch_size", "2", f"{data}.val_fraction", "0.3"),
        *("--model.init_args.encoder.init_args.model", str(folder)),
        *("--model.init_args.decoder.init_args.model", str(folder)),
        *("--model.init_args.generation.max_new_tokens", "6"),
        *("--trainer.default_root_dir", str(out), "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--trainer.max_steps", "1", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"),
        *("--trainer.num_sanity_val_steps", "0", "--trainer.limit_val_batches", "1"),
        *("--trainer.limit_test_batches", "1", "--trainer.limit_predict_batches", "1"),
    ]
    return main([*arguments, *more])


def test_the_second_stage_starts_from_the_first_and_keeps_the_tower(stages):
    _, _, pairs, one, two = stages
    first, second = load_task(one), load_task(two)
    assert second.ends is False
    assert first.prompt.template == second.prompt.template == read_preferences(pairs)[0].prompt == STEERING_PROMPT
    before, after = first.encoder.state_dict(), second.encoder.state_dict()
    assert all(value.equal(after[key]) for key, value in before.items())
    before, after = first.decoder.state_dict(), second.decoder.state_dict()
    moved = [(after[key] - value).abs().max().item() for key, value in before.items() if value.is_floating_point()]
    # one step of training apart, where random weights would be far apart
    assert 0 < max(moved) < 1e-3


@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_both_parts_of_a_text_are_scored(stages, stage, tree, tmp_path, capsys):
    name, folder, pairs, *checkpoints = stages
    more = ("--data.init_args.pairs", str(pairs)) if stage == 2 else ()
    options = ("--ckpt_path", str(checkpoints[stage - 1]), *more)
    assert run("test", f"absteering_{stage}_{name}.yaml", tree, folder, tmp_path, *options) == 0
    shown = capsys.readouterr().out
    for score in ("test/micro_f1", "test/list/micro_f1", "test/both/micro_f1", "test/list/problems"):
        assert score in shown


@pytest.mark.slow
def test_predict_writes_report_and_list(stages, tree, tmp_path):
    name, folder, pairs, _, two = stages
    table = tmp_path / "reports.csv"
    writer = json.dumps({"class_path": "ReportWriter", "init_args": {"path": str(table)}})
    more = ("--data.init_args.pairs", str(pairs), "--ckpt_path", str(two), "--trainer.callbacks+", writer)
    assert run("predict", f"absteering_2_{name}.yaml", tree, folder, tmp_path, *more) == 0
    rows = pd.read_csv(table, keep_default_na=False)
    assert len(rows) == 2
    assert {"prediction", "abnormalities"} <= set(rows.columns)
