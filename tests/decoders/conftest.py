"""Tiny random language models of several families, and a tokenizer trained on invented sentences."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.features import VisualContext

SENTENCES = [
    "The lungs are clear. No pleural effusion is seen.",
    "A solid nodule of 3.5 mm lies in the right upper lobe.",
    "The heart is enlarged; there is a small pericardial effusion.",
]
_ROPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
# a wide initialisation makes the logits differ enough for greedy texts to be varied
_WIDE = {"initializer_range": 0.3}
FAMILIES = {
    "llama": {"model_type": "llama", "num_key_value_heads": 2, **_ROPE, **_WIDE},
    "qwen3": {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 8, **_ROPE, **_WIDE},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, **_WIDE},
    "gpt_neox": {"model_type": "gpt_neox", **_ROPE, **_WIDE},
    "report": {"model_type": "ct_vlm_report_decoder", **_ROPE, **_WIDE},
}
NO_DROPOUT = {"gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}}


@pytest.fixture(scope="session")
def tokenizer():
    return train_bpe_tokenizer(SENTENCES * 4, vocab_size=320)


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return request.param


@pytest.fixture
def make_decoder(tokenizer):
    def make(family="llama", seed=0, model=None, **options):
        torch.manual_seed(seed)
        config = {**FAMILIES[family], **NO_DROPOUT.get(family, {})} if model is None else model
        return CausalLMDecoder(config, tokenizer, **options)

    return make


@pytest.fixture
def make_visual():
    def make(batch=2, tokens=5, width=32, layers=(0, 2), seed=1, scale=1.0):
        generator = torch.Generator().manual_seed(seed)
        draw = lambda: torch.randn(batch, tokens, width, generator=generator) * scale  # noqa: E731
        return VisualContext(draw(), {layer: draw() for layer in layers})

    return make
