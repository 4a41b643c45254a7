"""Training and evaluation from visual tokens on disk, through the command line: no tower is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import yaml

from ct_vlm.cli.main import main
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.models.absteering import CONFIGS
from ct_vlm.phantoms import write_ct_rate
from ct_vlm.tasks import load_task
from ct_vlm.text import STEERING_PROMPT

if TYPE_CHECKING:
    from pathlib import Path

BACKBONE = "internvl"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a tree of phantoms, a checkpoint, visual tokens and pairs; the voxels are gone."""
    folder = tmp_path_factory.mktemp("cached")
    tree, preset = folder / "tree", folder / "preset.json"
    write_ct_rate(tree, 8, shape=(12, 24, 24), seed=5, valid_fraction=0.25, workers=0, progress=False)
    texts = pd.read_csv(tree / "dataset/radiology_text_reports/train_reports.csv").Findings_EN
    write_tiny_video_lm(folder / "lm", BACKBONE, [STEERING_PROMPT, *texts], vocab_size=400)
    preset.write_text(json.dumps(CONFIGS["tiny"].preset[BACKBONE].to_config()))
    shared = ["--root", str(tree), "--no-progress"]
    embed = ["--encoder", str(folder / "lm"), "--out", str(folder / "tokens"), "--preset", str(preset)]
    assert main(["embed", *embed, "--frames", "2", *shared]) == 0
    assert main(["preferences", "--out", str(folder / "pairs.jsonl"), "--insert", *shared]) == 0
    for file in tree.rglob("*.nii.gz"):
        file.unlink()
    return folder


def config(place: Path, task: str) -> dict:
    """Return the configuration of a stage."""
    preset = CONFIGS["tiny"].preset[BACKBONE].to_config()["init_args"]
    scans = {"root": str(place / "tree"), "preset": preset, "text": "findings", "check_files": False}
    data = part("CTRateDataModule", **scans, val_fraction=0.3)
    data = part("CachedFeatureDataModule", data=data, folder=str(place / "tokens"), batch_size=2)
    data = part("SteeredTargetDataModule", data=data)
    if task == "DPOLightningModule":
        data = part("PreferenceDataModule", data=data, pairs=str(place / "pairs.jsonl"))
    model = part(
        task,
        encoder=part("AbsentEncoder", level_dims=[128]),
        connectors=[part("VideoTokens", level_dims=[128])],
        decoder=part("VideoLMDecoder", model=str(place / "lm"), lora={"r": 2, "lora_alpha": 4}),
        prompt=STEERING_PROMPT,
        preset=preset,
        generation={"max_new_tokens": 4},
    )
    return {"model": model, "data": data}


def part(name: str, **arguments) -> dict:
    return {"class_path": name, "init_args": arguments}


def call(command: str, place: Path, task: str, out: Path, *more: str) -> int:
    file = out / "run.yaml"
    file.write_text(yaml.safe_dump(config(place, task)))
    quiet = {"accelerator": "cpu", "devices": 1, "max_steps": 1, "logger": "false", "enable_progress_bar": "false"}
    quiet |= {"num_sanity_val_steps": 0, "limit_val_batches": 1, "limit_test_batches": 1}
    quiet["default_root_dir"] = str(out / command)
    options = [text for name, value in quiet.items() for text in (f"--trainer.{name}", str(value))]
    return main([command, "--config", str(file), *options, *more])


@pytest.mark.parametrize("task", [pytest.param("ReportLightningModule", marks=pytest.mark.slow), "DPOLightningModule"])
def test_both_stages_train_and_are_scored_without_tower_and_voxels(task, place, tmp_path, capsys) -> None:
    assert call("fit", place, task, tmp_path) == 0
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    trained = load_task(checkpoint)
    assert list(trained.encoder.parameters()) == []
    assert {name for name, p in trained.named_parameters() if p.requires_grad and "lora_" not in name} == set()
    moved = [float(p.detach().abs().max()) for name, p in trained.named_parameters() if "lora_B" in name]
    assert max(moved) > 0
    assert call("test", place, task, tmp_path, "--ckpt_path", str(checkpoint)) == 0
    assert "test/list/micro_f1" in capsys.readouterr().out
