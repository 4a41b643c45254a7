"""A slice encoder, R² pooling and the mask extractor in front of a small language model."""

from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.encoders import SliceEncoder
from ct_vlm.models import VisionLanguageModel
from ct_vlm.modules import MaskDrivenVisualExtractor, R2TokenPooling

REGIONS, SLICES, WIDTH = 3, 6, 16
REPORTS = ["The lungs are clear.", "There is a small nodule on the right."]
VIT = {
    "model_type": "dinov2",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 7,
    "image_size": 28,
}
LM = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
}


def build(**changes) -> VisionLanguageModel:
    encoder = SliceEncoder(VIT, (1, 2), **changes)
    settings = {"num_slow": REGIONS, "slow_grid": (2, 2)}
    connectors = [
        R2TokenPooling(encoder.level_dims, WIDTH, **settings),
        MaskDrivenVisualExtractor(
            encoder.level_dims, WIDTH, REGIONS, hidden_dim=8, pooling=R2TokenPooling(**settings), num_slices=SLICES
        ),
    ]
    return VisionLanguageModel(encoder, connectors, CausalLMDecoder(LM, train_bpe_tokenizer(REPORTS, 280)), "Report:")


def batch_of() -> dict:
    masks = (torch.rand(2, REGIONS, SLICES, 30, 30) < 0.2).to(torch.uint8)
    masks[1, 2] = 0
    return {"image": torch.rand(2, 1, SLICES, 30, 30), "region_masks": masks, "report": REPORTS}


@pytest.mark.parametrize("frozen", [True, False])
def test_forward_and_backward(frozen):
    model, batch = build(frozen=frozen).train(), batch_of()
    context = model.visual_context(batch)
    assert context.tokens.shape == (2, SLICES + REGIONS * 4 + 2 * REGIONS, WIDTH)
    model(batch).loss.backward()
    for part in (*model.connectors, model.decoder):
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in part.parameters())
    assert all((p.grad is None) == frozen for p in model.encoder.parameters() if frozen or p.requires_grad)


def test_training_lowers_the_loss():
    model, batch = build(), batch_of()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model(batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_generation_round_trip_and_copy(tmp_path):
    model, batch = build().eval(), batch_of()
    texts = model.generate_batch(batch, max_new_tokens=5)
    assert len(texts) == 2
    model.save_pretrained(tmp_path)
    for other in (Component.from_pretrained(tmp_path), copy.deepcopy(model)):
        torch.testing.assert_close(other(batch).loss, model(batch).loss)
        assert other.eval().generate_batch(batch, max_new_tokens=5) == texts


def test_what_masks_hold_reaches_the_loss():
    model, batch = build().eval(), batch_of()
    before = model(batch).loss
    batch["region_masks"] = batch["region_masks"].flip(0)
    assert not torch.allclose(model(batch).loss, before, atol=1e-7, rtol=0)
