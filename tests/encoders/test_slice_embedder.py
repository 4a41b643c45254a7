"""Class tokens of slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.encoders import SliceEmbedder, SliceEncoder
from ct_vlm.encoders.slice_embedder import uniform_slices
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 7, "image_size": 14}


def encoder(model_type: str = "dinov2", **options: Any) -> SliceEncoder:
    return SliceEncoder({"model_type": model_type, **CONFIG}, layers=(2,), chunk_size=3, **options)


def test_embedding_is_the_class_token_of_the_last_layer() -> None:
    slices = encoder()
    image = torch.rand(2, 1, 7, 14, 14)
    found = SliceEmbedder(slices)(image, spacing=torch.tensor([[2.0, 1, 1], [3.0, 1, 1]]))
    torch.testing.assert_close(found.levels[0], slices.encode(image)[1][-1][:, :, 0])
    assert found.grids == [(7, 1, 1)]
    assert found.slice_position_mm[:, 3].tolist() == [6.0, 9.0]
    assert SliceEmbedder(slices).level_dims == (8,)


def test_mean_pooling_is_the_mean_over_patches() -> None:
    slices = encoder()
    image = torch.rand(1, 1, 4, 14, 21)
    found = SliceEmbedder(slices, pooling="mean")(image).levels[0]
    torch.testing.assert_close(found, slices(image).levels[0].unflatten(1, (4, 6)).mean(2))


def test_padded_slices_are_zero() -> None:
    padding = torch.tensor([[False] * 3 + [True] * 2])
    found = SliceEmbedder(encoder())(torch.rand(1, 1, 5, 14, 14), padding_mask=padding)
    assert found.levels[0][0, 3:].abs().sum() == 0
    assert found.levels[0][0, :3].abs().sum(-1).min() > 0
    assert torch.equal(found.padding_mask, padding)


def test_long_volumes_are_thinned_out_before_they_are_encoded() -> None:
    slices = encoder()
    image, spacing = torch.rand(1, 1, 9, 14, 14), torch.tensor([[1.5, 1, 1]])
    padding = torch.arange(9).unsqueeze(0) > 6
    found = SliceEmbedder(slices, max_slices=5)(image, spacing, padding)
    chosen = [0, 2, 4, 6, 8]
    torch.testing.assert_close(
        found.levels[0][:, :4], SliceEmbedder(slices)(image[:, :, chosen[:4]]).levels[0], atol=1e-6, rtol=1e-5
    )
    assert found.slice_position_mm.tolist() == [[1.5 * index for index in chosen]]
    assert found.padding_mask.tolist() == [[False, False, False, False, True]]


@pytest.mark.parametrize("count", [1, 2, 599, 600, 601, 900, 1199, 1200, 5000])
def test_kept_slices_are_spread_evenly_and_none_twice(count: int) -> None:
    kept = uniform_slices(count, 600)
    assert len(kept) == min(count, 600)
    assert (int(kept[0]), int(kept[-1])) == (0, count - 1)
    if count > 1:
        steps = kept.diff()
        assert int(steps.min()) >= 1
        assert int(steps.max()) <= -(-count // 600) + (count > 600)
    assert len(uniform_slices(count, None)) == count


def test_models_without_a_class_token_are_refused() -> None:
    timm_model = {"timm": "vit_tiny_patch16_224", "img_size": 16, "patch_size": 8, "embed_dim": 6, "depth": 1}
    slices = SliceEncoder(
        {**timm_model, "num_heads": 1, "class_token": False, "global_pool": "avg", "in_chans": 1}, layers=(1,)
    )
    image = torch.rand(1, 1, 2, 16, 16)
    with pytest.raises(ConfigError, match="no class token"):
        SliceEmbedder(slices)(image)
    assert SliceEmbedder(slices, pooling="mean")(image).levels[0].shape == (1, 2, 6)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="pooling"):
        SliceEmbedder(encoder(), pooling="max")
    with pytest.raises(ConfigError, match="at least 2"):
        uniform_slices(9, 1)


def test_configuration_and_weights_round_trip(tmp_path: Path) -> None:
    embedder = SliceEmbedder(encoder(), max_slices=5)
    again = Component.from_pretrained(embedder.save_pretrained(tmp_path))
    image = torch.rand(1, 1, 6, 14, 14)
    assert torch.equal(again(image).levels[0], embedder(image).levels[0])
