"""A model whose connector gives memory for cross-attention and no prompt tokens."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.encoders import ResidualUNetEncoder
from ct_vlm.features import Features, VisualContext
from ct_vlm.models import VisionLanguageModel
from ct_vlm.modules import Connector, CrossAttentionAdapters

REPORTS = ["Clear lungs.", "A nodule of 3.5 mm."]


class CoarsestAsMemory(Connector):
    def forward(self, features, batch=None):
        return VisualContext(memory=features.levels[-1])


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    adapters = CrossAttentionAdapters(16, [0, 1], 2, memory_dim=6, gate_init=1.0, init_gain=3.0)
    tokenizer = train_bpe_tokenizer(REPORTS, 270)
    wide = {"num_attention_heads": 2, "initializer_range": 0.3}
    decoder = CausalLMDecoder({**config, **wide}, tokenizer, cross_attention=adapters)
    encoder = ResidualUNetEncoder(1, [4, 6], [1, 1], [1, 2])
    return VisionLanguageModel(encoder, [CoarsestAsMemory()], decoder)


def features(seed):
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(2, 8, 6, generator=generator)], [(2, 2, 2)])


def test_it_trains_and_writes_from_the_memory_alone(model):
    loss = model({"features": features(0), "report": REPORTS}).loss
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.decoder.cross_attention.parameters())
    texts = [model.generate_batch({"features": features(seed)}, max_new_tokens=8) for seed in (0, 1)]
    assert len(texts[0]) == 2
    assert texts[0] != texts[1]


def test_a_saved_model_writes_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = Component.from_pretrained(tmp_path)
    batch = {"features": features(0)}
    texts = [m.eval().generate_batch(batch, max_new_tokens=8) for m in (model, again)]
    assert texts[0] == texts[1]
