"""Halves of video language models: what is loaded, and what is refused with a reason."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.video_lm.families import FAMILIES, family_of
from ct_vlm.video_lm.loading import config_values, load_half
from ct_vlm.video_lm.tiny import tiny_config

HALVES = ("vision", "language")


@pytest.fixture
def folder(tmp_path):
    return write_tiny_video_lm(tmp_path / "lm", "internvl", ["Clear lungs."], vocab_size=270)


@pytest.mark.parametrize("half", HALVES)
def test_a_half_has_its_own_weights_the_whole_config_and_nothing_else(folder, half) -> None:
    from transformers import AutoModelForImageTextToText

    stored = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    found = load_half(str(folder), half).state_dict()
    keys = {name if half == "language" else f"model.{name}" for name in found}
    own = {name for name in stored if ("vision" in name or "projector" in name) == (half == "vision")}
    assert keys == own
    assert all(
        torch.equal(found[name.removeprefix("model.") if half == "vision" else name], stored[name]) for name in own
    )
    whole = json.loads((folder / "config.json").read_text())
    config = load_half(str(folder), half).config
    assert config.text_config.num_hidden_layers == whole["text_config"]["num_hidden_layers"]
    assert config.vision_config.num_hidden_layers == whole["vision_config"]["num_hidden_layers"]


def test_a_dict_gives_new_weights_with_a_config_that_builds_them_again() -> None:
    torch.manual_seed(0)
    first = load_half(tiny_config("qwen2_5_vl"), "vision")
    values = config_values(first)
    assert values["text_config"]["num_hidden_layers"] == 4
    assert values["text_config"]["vocab_size"] == 152064
    torch.manual_seed(0)
    second = load_half(values, "vision")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_same_seed_writes_the_same_checkpoint_and_leaves_the_random_state(folder, tmp_path) -> None:
    before = torch.get_rng_state()
    again = write_tiny_video_lm(tmp_path / "again", "internvl", ["Clear lungs."], vocab_size=270)
    other = write_tiny_video_lm(tmp_path / "other", "internvl", ["Clear lungs."], vocab_size=270, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    one, two, three = (path.joinpath("model.safetensors").read_bytes() for path in (folder, again, other))
    assert one == two != three


@pytest.mark.parametrize("half", HALVES)
def test_a_checkpoint_that_lacks_weights_is_refused(folder, half) -> None:
    file = folder / "model.safetensors"
    part = "vision_tower" if half == "vision" else "layers.1"
    save_file({k: v for k, v in load_file(file).items() if part not in k}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"lacks weights: .*{part}"):
        load_half(str(folder), half)


def test_what_is_no_video_language_model(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="Cannot read the config"):
        family_of(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text('{"model_type": "internvl"')
    with pytest.raises(CheckpointError, match="Cannot read the config"):
        family_of(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(ConfigError, match="`llava` is no known family"):
        load_half(str(tmp_path), "vision")
    (tmp_path / "config.json").write_text(json.dumps(tiny_config("internvl")))
    with pytest.raises(CheckpointError, match="Cannot load"):
        load_half(str(tmp_path), "vision")
    with pytest.raises(ConfigError, match="Cannot build"):
        load_half({**tiny_config("internvl"), "text_config": {"model_type": "no such"}}, "language")
    with pytest.raises(ConfigError, match="no tiny"):
        tiny_config("llava")


def test_films_are_written_by_their_grid() -> None:
    for family in FAMILIES.values():
        text = family.write_video((3, 2, 4), 1.0)
        assert text.count(family.placeholder) == 24
        assert text.count(family.opening) == text.count(family.closing) == (1 if family.writing == "block" else 3)
    assert FAMILIES["qwen3_vl"].write_video((2, 1, 1), 2.0).startswith("<0.5 seconds><|vision_start|>")
