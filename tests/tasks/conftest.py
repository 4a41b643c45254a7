from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ct_vlm.phantoms import write_ct_rate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """A small tree of phantoms in CT-RATE layout with masks."""
    root = tmp_path_factory.mktemp("phantoms")
    write_ct_rate(root, 20, shape=(16, 32, 32), seed=3, valid_fraction=0.3, workers=0, progress=False)
    return root


@pytest.fixture
def ker_parts():
    """Makes the parts of a very small Ker-VLJEPA, and batches of cached features for it."""
    from torch import randn

    from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
    from ct_vlm.encoders import ResidualUNetEncoder
    from ct_vlm.features import Features
    from ct_vlm.modules import (
        CrossAttentionAdapters,
        JEPAHead,
        NormCalibrator,
        VisualPredictor,
        ZoneConstrainedCrossAttention,
        ZonedVisualTokens,
    )

    texts = ["Effusion is seen.", "A nodule is seen.", "No abnormality.", "Effusion is seen."]
    tokenizer = train_bpe_tokenizer(texts, 280)

    class Parts:
        labels = ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1.0, float("nan")))

        def encoder(self):
            return ResidualUNetEncoder(features=(8,), blocks=(1,), strides=(1,))

        def visual(self):
            zones = ZoneConstrainedCrossAttention(8, num_zones=4, num_heads=2, hidden_dim=16, position="none")
            return ZonedVisualTokens(zones, VisualPredictor(8, 16), NormCalibrator(16, 1.0))

        def jepa(self):
            return JEPAHead(16, 6, hidden_dim=8)

        def decoder(self, **options):
            config = {
                "model_type": "llama",
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
            }
            options = {"lora": {"r": 2}, "cross_attention": CrossAttentionAdapters(16, [0, 1], 2), **options}
            return CausalLMDecoder(config, tokenizer, **options)

        def batch(self, size=4):
            from torch import tensor

            return {
                "features": Features([randn(size, 9, 8)], [(9, 1, 1)]),
                "labels": tensor(self.labels[:size]),
                "report": texts[:size],
                "volume_id": [f"v{i}" for i in range(size)],
                "patient_id": [f"p{i}" for i in range(size)],
                "text_embedding": randn(size, 6),
                "condition_embeddings": randn(size, 2, 6),
                "condition_mask": tensor(self.labels[:size]) == 1,
            }

    return Parts()
