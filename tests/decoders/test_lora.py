from __future__ import annotations

import pytest
import torch

from ct_vlm.decoders import LORA_PRESETS, CausalLMDecoder, lora_settings
from ct_vlm.errors import ConfigError
from ct_vlm.models.ker_vljepa import CONFIGS
from ct_vlm.modules import CrossAttentionAdapters

# without the placeholder that the library adds to the vocabulary
LLAMA_3_2_3B = {**CONFIGS["paper"].language_model, "vocab_size": 128256}
# a layer's linears: in and out widths
WIDTHS = [(3072, 3072), (3072, 1024), (3072, 1024), (3072, 3072), (3072, 8192), (3072, 8192), (8192, 3072)]


def test_the_papers_language_model_has_392_lora_tensors(tokenizer):
    with torch.device("meta"):
        adapters = CrossAttentionAdapters(3072, [7, 14, 21], 24)
        decoder = CausalLMDecoder(LLAMA_3_2_3B, tokenizer, lora="ker_vljepa", cross_attention=adapters)
    lora = {name: p for name, p in decoder.named_parameters() if "lora_" in name}
    assert len(lora) == 28 * 7 * 2 == 392
    assert sum(p.numel() for p in lora.values()) == 28 * 16 * sum(a + b for a, b in WIDTHS)
    assert decoder.lm.model.layers[27].mlp.down_proj.scaling == {"default": 2.0}
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    bridge = {name for name in trained if name.startswith("cross_attention.")}
    assert trained == bridge | set(lora)
    assert len(bridge) == 27
    frozen = sum(p.numel() for name, p in decoder.named_parameters() if name not in trained)
    assert frozen == 3_212_749_824


def test_the_released_weights_have_rank_64(make_decoder):
    layer = make_decoder(lora="ker_vljepa_released").lm.model.layers[1]
    assert layer.mlp.up_proj.lora_A["default"].weight.shape == (64, 32)
    assert layer.self_attn.v_proj.scaling == {"default": 2.0}


def test_a_preset_is_recorded_resolved(make_decoder):
    decoder = make_decoder(lora="ker_vljepa")
    assert decoder.to_config()["init_args"]["lora"] == LORA_PRESETS["ker_vljepa"]
    assert sum("lora_" in name for name in decoder.state_dict()) == 3 * 7 * 2


def test_settings_are_not_shared_and_unknown_names_are_refused():
    lora_settings("ker_vljepa")["r"] = 1
    assert LORA_PRESETS["ker_vljepa"]["r"] == 16
    assert lora_settings({"r": 3}) == {"r": 3}
    with pytest.raises(ConfigError, match="ker_vljepa_released"):
        lora_settings("ker")
