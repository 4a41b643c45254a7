"""Attributes in the prompt of a model."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.attributes import LesionGroup, Organ, PatientAttributes, render_attributes
from ct_vlm.component import Component
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.features import Features
from ct_vlm.models import VisionLanguageModel, u_vlm
from ct_vlm.modules import AttributeText
from ct_vlm.text import ReportPrompt

SMALL = PatientAttributes((Organ("heart", None, 412.0),), nodules=LesionGroup(0))
LARGE = PatientAttributes((Organ("heart", None, 935.0),), nodules=LesionGroup(0))
FEATURES = Features([torch.zeros(2, 1, 4)], [(1, 1, 1)])


def model(prompt=None):
    torch.manual_seed(0)
    base = u_vlm("tiny", tokenizer=train_bpe_tokenizer([render_attributes(SMALL), "The heart size is normal."], 300))
    parts = [*base.connectors, AttributeText()]
    return VisionLanguageModel(base.encoder, parts, base.decoder, prompt, base.preset).eval()


def test_every_kind_of_entry():
    for entries in ([SMALL, LARGE], [SMALL.to_dict(), LARGE.to_dict()], [render_attributes(x) for x in (SMALL, LARGE)]):
        text = AttributeText()(FEATURES, {"attributes": entries}).text
        assert text == [render_attributes(SMALL), render_attributes(LARGE)]
    assert AttributeText()(FEATURES, {"attributes": [None, SMALL]}).text[0] == ""


def test_what_is_wrong_with_a_batch_is_said():
    part = AttributeText()
    for batch in (None, {}, {"attributes": None}):
        with pytest.raises(ShapeError, match="holds no `attributes`"):
            part(FEATURES, batch)
    with pytest.raises(ShapeError, match="list of 2 entries"):
        part(FEATURES, {"attributes": [SMALL]})
    with pytest.raises(ShapeError, match="list of 2 entries"):
        part(FEATURES, {"attributes": "ab"})
    with pytest.raises(ShapeError, match="int"):
        part(FEATURES, {"attributes": [SMALL, 3]})
    with pytest.raises(DatasetError, match="version"):
        part(FEATURES, {"attributes": [SMALL, {}]})
    assert AttributeText(required=False)(FEATURES, {}).text is None


def test_config_round_trip():
    part = Component.from_config(AttributeText("facts", max_listed=3, required=False).to_config())
    assert (part.key, part.max_listed, part.required) == ("facts", 3, False)
    assert list(part.parameters()) == []


def test_the_text_stands_in_the_prompt_and_decides_the_loss():
    vlm = model()
    image = torch.rand(1, 3, 16, 32, 32).expand(2, -1, -1, -1, -1)
    batch = {"image": image, "attributes": [SMALL, LARGE], "report": ["The heart size is normal."] * 2}
    prompts, rest = vlm.prompts(batch, vlm.visual_context(batch), 2)
    assert prompts[0] == f"{render_attributes(SMALL)}\nWrite the report:"
    assert "935 mL" in prompts[1]
    assert rest.text is None
    losses = [vlm({**batch, "attributes": [entry] * 2}).loss for entry in (SMALL, LARGE)]
    assert (losses[0] - losses[1]).abs() > 1e-6
    assert len(vlm.generate_batch(batch, max_new_tokens=3)) == 2


def test_a_prompt_without_a_slot_is_an_error_and_own_prompts_are_filled_in():
    batch = {"image": torch.rand(1, 3, 16, 32, 32), "attributes": [SMALL], "report": ["The heart size is normal."]}
    with pytest.raises(ConfigError, match=r"no `\{text\}`"):
        model(ReportPrompt("Write the report:"))(batch)
    own = {**batch, "prompt": ["{text} Write the findings for the heart."]}
    vlm = model()
    assert torch.isfinite(vlm(own).loss)
    assert (vlm(own).loss - vlm({**own, "attributes": [LARGE]}).loss).abs() > 1e-6
