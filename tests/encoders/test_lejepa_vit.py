"""The published encoder's size, and class tokens of the small one."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.encoders import lejepa_vit
from ct_vlm.errors import ConfigError


def class_tokens(encoder, image):
    return encoder.encode(image)[1][-1][:, :, 0]


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return lejepa_vit("paper")


def test_paper_has_the_published_parameters(paper):
    encoder = paper
    model = encoder.backbone.model
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 303_966_208
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert tuple(model.pos_embed.shape) == (1, 1370, 1024)
    assert (encoder.backbone.depth, encoder.backbone.patch_size, encoder.level_dims) == (24, (14, 14), (1024,))
    assert model.blocks[0].attn.num_heads == 16
    assert model.patch_embed.proj.weight.shape[1] == 1


@pytest.mark.parametrize(("side", "tokens"), [(504, 36**2), (224, 256), (140, 100)])
def test_paper_takes_slices_and_both_crops(side, tokens, paper):
    with torch.device("meta"):
        features, prefix = paper.encode(torch.empty(1, 1, 2, side, side))
    assert tuple(features.levels[0].shape) == (1, 2 * tokens, 1024)
    assert tuple(prefix[-1].shape) == (1, 2, 1, 1024)


def test_tiny_embeds_each_slice_alone():
    encoder = lejepa_vit("tiny", in_channels=3).eval()
    image = torch.rand(2, 3, 5, 48, 48)
    tokens = class_tokens(encoder, image)
    assert tokens.shape == (2, 5, 96)
    torch.testing.assert_close(class_tokens(encoder, image[1:, :, 3:4])[0, 0], tokens[1, 3])


def test_tiny_takes_smaller_crops_and_passes_gradients_everywhere():
    encoder = lejepa_vit("tiny")
    class_tokens(encoder, torch.rand(1, 1, 2, 24, 40)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_frozen_encoder_has_no_gradients():
    encoder = lejepa_vit("tiny", frozen=True).train()
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder.backbone.training


def test_trained_encoder_comes_back_from_its_files(tmp_path):
    encoder = lejepa_vit("tiny").eval()
    again = Component.from_pretrained(encoder.save_pretrained(tmp_path)).eval()
    image = torch.rand(1, 1, 2, 48, 48)
    torch.testing.assert_close(class_tokens(again, image), class_tokens(encoder, image))


def test_unknown_size():
    with pytest.raises(ConfigError, match="huge"):
        lejepa_vit("huge")
