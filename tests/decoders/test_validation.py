from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ct_vlm.decoders import CausalLMDecoder, Decoder
from ct_vlm.errors import CheckpointError, ConfigError, ShapeError
from ct_vlm.features import VisualContext

from .conftest import FAMILIES


def test_wrong_visual_context_is_named(make_decoder, make_visual):
    decoder = make_decoder(injection_layers=[0, 1])
    batch = decoder.encode(["a", "b"], ["c", "d"]).inputs()
    with pytest.raises(ShapeError, match="32 wide"):
        decoder(**batch, visual=make_visual(width=16, layers=()))
    with pytest.raises(ShapeError, match="batch of 2"):
        decoder(**batch, visual=make_visual(batch=3, layers=()))
    with pytest.raises(ConfigError, match=r"layers \[2\]"):
        decoder(**batch, visual=make_visual(layers=(0, 2)))


def test_wrong_text_is_named(make_decoder):
    decoder = make_decoder()
    ids = torch.ones(2, 4).long()
    with pytest.raises(ShapeError, match="integer `input_ids`"):
        decoder(ids[0])
    with pytest.raises(ShapeError, match="integer `input_ids`"):
        decoder(ids.float())
    with pytest.raises(ShapeError, match="`labels`"):
        decoder(ids, ids[:, 1:])
    with pytest.raises(ShapeError, match="`attention_mask`"):
        decoder(ids, attention_mask=ids[:1])


def test_sequence_longer_than_the_model_is_named(make_decoder, make_visual):
    decoder = make_decoder("gpt2")
    with pytest.raises(ShapeError, match="needs 262 positions"):
        decoder(torch.ones(1, 257).long(), visual=make_visual(batch=1))


def test_nan_is_named_when_asked_for(make_decoder, make_visual):
    visual = make_visual()
    visual.layer_states[2][0, 0, 0] = torch.nan
    ids = torch.ones(2, 4).long()
    with pytest.raises(ShapeError, match=r"layer_states\[2\]"):
        make_decoder(validate_finite=True)(ids, visual=visual)
    assert make_decoder()(ids, visual=visual).logits.isnan().any()


@pytest.mark.parametrize("layers", [[0, 3], [-1], [1, 1]])
def test_wrong_injection_layers_are_named(make_decoder, layers):
    with pytest.raises(ConfigError, match="from 0 to 2"):
        make_decoder(injection_layers=layers)


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        ({"hidden_size": 4}, ConfigError, "no `model_type`"),
        ({"model_type": "no_such_model"}, ConfigError, "no_such_model"),
        ({"model_type": "vit"}, ConfigError, "`vit` is no causal LM"),
        ({"model_type": "ct_vlm_report_decoder", "hidden_size": 30}, ConfigError, "even width"),
        ({**FAMILIES["llama"], "vocab_size": 10}, ConfigError, "the model embeds 10"),
        ("./no/such/folder", CheckpointError, "no/such/folder"),
    ],
)
def test_wrong_models_are_named(make_decoder, model, error, match):
    with pytest.raises(error, match=match):
        make_decoder(model=model)


def test_a_module_that_is_no_causal_lm_is_refused(make_decoder):
    with pytest.raises(ConfigError, match="no causal LM"):
        make_decoder(model=nn.Linear(2, 2))


def test_a_model_in_use_is_refused_and_its_copy_too(make_decoder):
    decoder = make_decoder()
    for lm in (decoder.lm, copy.deepcopy(decoder.lm)):
        with pytest.raises(ConfigError, match="already belongs"):
            make_decoder(model=lm)


def test_wrong_lora_is_named(make_decoder):
    with pytest.raises(ConfigError, match="Cannot add LoRA"):
        make_decoder(lora={"rank": 4})
    with pytest.raises(ConfigError, match="Cannot add LoRA"):
        make_decoder(lora={"r": 4, "target_modules": ["no_such_module"]})


def test_hybrid_mask_refuses_attention_it_cannot_serve(make_decoder, make_visual):
    with pytest.raises(ConfigError, match="flex_attention"):
        make_decoder(hybrid_mask=True, attn_implementation="flex_attention")
    window = {**FAMILIES["qwen3"], "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}
    decoder = make_decoder(model=window, hybrid_mask=True)
    with pytest.raises(ConfigError, match="window is 6"):
        decoder(torch.ones(2, 4).long(), visual=make_visual())
    assert decoder(torch.ones(2, 4).long()).logits.isfinite().all()


class Deaf(nn.Module):
    """A layer stack that drops the keyword arguments it gets."""

    def __init__(self, layers):
        super().__init__()
        self.inner = layers

    def forward(self, hidden, **kwargs):
        return self.inner(hidden, **{k: v for k, v in kwargs.items() if not k.startswith("visual_")})


def test_a_model_that_drops_keywords_is_refused(make_decoder, make_visual):
    decoder = make_decoder("llama")
    layers = decoder.lm.model.layers
    layers[1] = Deaf(layers[1])
    ids = torch.ones(2, 4).long()
    with pytest.raises(ConfigError, match=r"passes no keyword arguments to its layers \[1\]"):
        decoder(ids, visual=make_visual(layers=(0,)))
    assert decoder(ids, visual=VisualContext(make_visual().tokens)).logits.isfinite().all()


def test_an_incomplete_decoder_is_refused():
    class Incomplete(Decoder):
        def encode(self, prompts, targets=None, visual=None):
            return None

    with pytest.raises(TypeError, match="abstract method"):
        Incomplete()


def test_contract_attributes(family, make_decoder):
    decoder = make_decoder(family)
    assert isinstance(decoder, CausalLMDecoder)
    assert (decoder.embed_dim, decoder.num_layers) == (32, 3)
    assert decoder.injection_layers == (0, 1, 2)
