"""The shipped YAML files for AbSteering's published models, on tiny checkpoints of the same classes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule, LightningModule

from ct_vlm.cli.main import main
from ct_vlm.cli.parts import import_parts
from ct_vlm.datasets.preferences import PreferencePair, write_preferences
from ct_vlm.encoders.video_lm import default_inputs
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.models.absteering import CONFIGS as SIZES
from ct_vlm.models.absteering import absteering
from ct_vlm.phantoms import write_ct_rate
from ct_vlm.tasks import load_task
from ct_vlm.text import STEERING_PROMPT
from ct_vlm.video_lm.published import PUBLISHED

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"
BACKBONES = {"qwen": "qwen2_5_vl", "internvl": "internvl"}
TINY_WIDTH = 128


@pytest.fixture(scope="module", params=list(BACKBONES))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory) -> Path:
    return write_tiny_video_lm(tmp_path_factory.mktemp(name), BACKBONES[name], [STEERING_PROMPT], vocab_size=280)


@pytest.fixture(scope="module")
def paper(name, folder):
    """The builder's model; how weights are kept is no setting of the size."""
    how = {"dtype": "bfloat16", "gradient_checkpointing": True}
    return absteering("paper", backbone=BACKBONES[name], model=str(folder), **how)


def read(file: str) -> dict:
    return yaml.safe_load((CONFIGS / file).read_text())


def build(file: str, folder: Path) -> tuple[LightningModule, LightningDataModule]:
    """Return model and data of a file, with a tiny checkpoint in place of the published one."""
    values = {key: value for key, value in read(file).items() if key in ("model", "data")}
    parts = values["model"]["init_args"]
    for half in ("encoder", "decoder"):
        parts[half]["init_args"]["model"] = str(folder)
    parts["connectors"][0]["init_args"]["level_dims"] = [TINY_WIDTH]
    import_parts()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    parser.add_subclass_arguments(LightningDataModule, "data")
    built = parser.instantiate_classes(parser.parse_object(values))
    return built.model, built.data


@pytest.mark.parametrize("stage", [1, 2])
def test_a_file_builds_the_papers_model(stage, name, folder, paper) -> None:
    task, data = build(f"absteering_{stage}_{name}_paper.yaml", folder)
    assert task.encoder.to_config() == paper.encoder.to_config()
    found, wanted = (dict(model.decoder.to_config()["init_args"]) for model in (task, paper))
    assert found.pop("seconds_per_grid") == pytest.approx(wanted.pop("seconds_per_grid"), abs=1e-6)
    assert found == wanted
    assert found["gradient_checkpointing"] is True
    assert task.prompt.to_config() == paper.prompt.to_config()
    assert task.preset == paper.preset == data.preset == SIZES["paper"].preset[BACKBONES[name]]
    assert next(task.encoder.parameters()).dtype == torch.bfloat16
    learning, wanted = ({n for n, p in model.named_parameters() if p.requires_grad} for model in (task, paper))
    assert learning == wanted
    assert all("lora_" in n for n in learning)


@pytest.mark.parametrize("stage", [1, 2])
def test_its_widths_and_times_are_those_of_the_published_checkpoint(stage, name) -> None:
    published = PUBLISHED[BACKBONES[name]]
    parts = read(f"absteering_{stage}_{name}_paper.yaml")["model"]["init_args"]
    assert parts["connectors"][0]["init_args"]["level_dims"] == [published["text_config"]["hidden_size"]]
    steps = default_inputs(published).token_grid(240, 480, 480)[0]
    assert parts["decoder"]["init_args"]["seconds_per_grid"] * steps == pytest.approx(240 / 18, abs=1e-4)


@pytest.mark.slow
def test_both_stages_train_adapters_alone(name, folder, tmp_path) -> None:
    tree, pairs = tmp_path / "tree", tmp_path / "pairs.jsonl"
    write_ct_rate(tree, 3, shape=(12, 24, 24), seed=5, valid_fraction=0.34, workers=0, progress=False)
    table = pd.read_csv(tree / "dataset/radiology_text_reports/train_reports.csv")
    names = [volume.removesuffix(".nii.gz") for volume in table.VolumeName]
    texts = ("Abnormalities:\n(Lung: A nodule.)", "Abnormalities:\n(Lung: A mass.)")
    write_preferences([PreferencePair(volume, STEERING_PROMPT, *texts) for volume in names], pairs)
    assert fit(1, name, folder, tree, tmp_path) == 0
    one = next((tmp_path / "1").rglob("*.ckpt"))
    more = ("--model.init_args.init_from", json.dumps({"decoder": str(one)}), "--data.init_args.pairs", str(pairs))
    assert fit(2, name, folder, tree, tmp_path, *more) == 0
    first, second = (load_task(file).state_dict() for file in (one, next((tmp_path / "2").rglob("*.ckpt"))))
    moved = {key for key, value in first.items() if not torch.equal(value, second[key])}
    assert moved
    assert all("lora_" in key for key in moved)


def fit(stage: int, name: str, folder: Path, tree: Path, out: Path, *more: str) -> int:
    """Train for a step on phantoms, at a tiny size."""
    data = "--data.init_args.data" + ".init_args.data" * (stage - 1) + ".init_args"
    preset = json.dumps(SIZES["tiny"].preset[BACKBONES[name]].to_config()["init_args"])
    arguments = {
        **{f"--model.init_args.{half}.init_args.model": folder for half in ("encoder", "decoder")},
        "--model.init_args.connectors": json.dumps(
            [{"class_path": "VideoTokens", "init_args": {"level_dims": [TINY_WIDTH]}}]
        ),
        "--model.init_args.preset": preset,
        f"{data}.preset": preset,
        f"{data}.root": tree,
        f"{data}.num_workers": 0,
        f"{data}.val_fraction": 0,
        f"{data}.cache_dir": out / "cache",
        "--trainer.default_root_dir": out / str(stage),
        "--trainer.accumulate_grad_batches": 1,
        "--trainer.max_steps": 1,
        "--trainer.accelerator": "cpu",
        "--trainer.logger": "false",
        "--trainer.enable_progress_bar": "false",
    }
    options = [str(part) for pair in arguments.items() for part in pair]
    return main(["fit", "--config", str(CONFIGS / f"absteering_{stage}_{name}_paper.yaml"), *options, *more])
