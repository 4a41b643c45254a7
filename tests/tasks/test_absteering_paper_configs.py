"""The shipped YAML files for AbSteering's published models, on tiny checkpoints of the same classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule, LightningModule

from ct_vlm.cli.parts import import_parts
from ct_vlm.encoders.video_lm import default_inputs
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.models.absteering import CONFIGS as SIZES
from ct_vlm.models.absteering import absteering
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
