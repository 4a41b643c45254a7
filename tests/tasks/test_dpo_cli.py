"""Stage 1 and preferences through the command line, on phantoms."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
import yaml

from ct_vlm.cli.main import main
from ct_vlm.datasets.preferences import PreferencePair, write_preferences
from ct_vlm.phantoms import write_ct_rate
from ct_vlm.tasks import load_task

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def config(tree, task: str, data: dict, **options) -> dict:
    tokenizer = {"train_on": str(tree / "dataset/radiology_text_reports/train_reports.csv"), "vocab_size": 300}
    connector = {
        "level_dims": [8],
        "embed_dim": 16,
        "num_layers": 2,
        "layers_per_stage": 1,
        "grid": [2, 2, 2],
        "hidden_dim": 8,
    }
    return {
        "seed_everything": 0,
        "trainer": {
            "max_steps": 2,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 1,
        },
        "model": {
            "class_path": task,
            "init_args": {
                "encoder": {
                    "class_path": "ResidualUNetEncoder",
                    "init_args": {"in_channels": 3, "features": [8], "blocks": [1], "strides": [2]},
                },
                "connectors": [{"class_path": "MultiLayerVisualInjection", "init_args": connector}],
                "decoder": {
                    "class_path": "CausalLMDecoder",
                    "init_args": {
                        "model": {"model_type": "llama", **SIZES},
                        "tokenizer": tokenizer,
                        "lora": {"r": 2},
                    },
                },
                "preset": "phantom",
                "generation": {"max_new_tokens": 3},
                **options,
            },
        },
        "data": data,
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("dpo") / "tree"
    write_ct_rate(root, 8, shape=(16, 24, 24), seed=2, valid_fraction=0.25, workers=0, progress=False)
    return root


@pytest.mark.slow
def test_both_stages_run_from_yaml(tree, tmp_path, capsys) -> None:
    volumes = {
        "class_path": "CTRateDataModule",
        "init_args": {"root": str(tree), "batch_size": 2, "val_fraction": 0.4, "cache_dir": str(tmp_path / "cache")},
    }
    names = sorted(path.name.split(".")[0] for path in (tree / "dataset").glob("train*/*/*/*.nii.gz"))
    pairs = [PreferencePair(name, "Write the report:", "No effusion.", "Effusion is seen.") for name in names]
    write_preferences(pairs, tmp_path / "pairs.jsonl")
    paired = {
        "class_path": "PreferenceDataModule",
        "init_args": {"data": volumes, "pairs": str(tmp_path / "pairs.jsonl")},
    }

    def run(command: str, name: str, settings: dict, *more: str) -> None:
        # a folder a run: each keeps its configuration
        settings["trainer"]["default_root_dir"] = str(tmp_path / f"{command}_{name}")
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(settings))
        assert main([command, "--config", str(file), *more]) == 0

    run("fit", "1", config(tree, "ReportLightningModule", volumes))
    first = next((tmp_path / "fit_1").rglob("*.ckpt"))
    sources = {part: str(first) for part in ("encoder", "connectors.0", "decoder")}
    second = config(tree, "DPOLightningModule", paired, init_from=sources, beta=0.2, ends=False)
    run("fit", "2", second)
    last = next((tmp_path / "fit_2").rglob("*.ckpt"))
    task = load_task(last)
    assert task.beta == 0.2
    stage_1 = load_task(first)
    moved = [
        name
        for name, value in task.named_parameters()
        if not torch.equal(value, dict(stage_1.named_parameters())[name])
    ]
    assert len(moved) > 0
    assert all("lora_" in name for name in moved)
    capsys.readouterr()
    run("validate", "2", second, "--ckpt_path", str(last))
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("val/accuracy", "val/margin", "val/kl"))
    run("test", "2", second, "--ckpt_path", str(last))
    assert "test/micro_f1" in capsys.readouterr().out
    table = tmp_path / "reports.csv"
    writer = json.dumps({"class_path": "ReportWriter", "init_args": {"path": str(table)}})
    run("predict", "2", second, "--ckpt_path", str(last), "--trainer.callbacks+", writer)
    assert len(pd.read_csv(table)) > 0
