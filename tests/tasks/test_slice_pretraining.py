"""Dense pretraining of a slice encoder by the segmentation task."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.encoders import SliceEncoder
from ct_vlm.modules import PatchSegmentationDecoder
from ct_vlm.tasks import OptimizerConfig, SegmentationLightningModule

BACKBONE = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 4,
    "image_size": 16,
    "num_channels": 1,
}
SIZE = (1, 3, 16, 16)


def task(**options) -> SegmentationLightningModule:
    torch.manual_seed(0)
    encoder = SliceEncoder(BACKBONE, (1, 2), frozen=False)
    decoder = PatchSegmentationDecoder(encoder.level_dims, 3, block=4)
    settings = {"presence_levels": (1,), "slice_grid": (1, 2), **options}
    return SegmentationLightningModule(encoder, decoder, OptimizerConfig(lr=3e-3), **settings)


def batch() -> dict[str, torch.Tensor]:
    """A bright square on the left of the first slice, a brighter one on the right of the last."""
    image, labels = torch.zeros(1, *SIZE), torch.zeros(SIZE, dtype=torch.long)
    image[0, 0, 0, 4:8, 4:8], labels[0, 0, 4:8, 4:8] = 0.5, 1
    image[0, 0, 2, 4:8, 8:12], labels[0, 2, 4:8, 8:12] = 1.0, 2
    return {"image": image, "segmentation": labels}


def test_losses_of_patches_and_of_mean_tokens_join_the_total():
    losses = task().losses(batch())
    assert set(losses) == {"loss", "dice_ce", "presence_1", "slice_presence"}
    parts = sum(value for name, value in losses.items() if name != "loss")
    torch.testing.assert_close(losses["loss"], parts)


def test_without_a_slice_grid_nothing_changes():
    assert set(task(slice_grid=None).losses(batch())) == {"loss", "dice_ce", "presence_1"}


def test_an_encoder_learns_where_things_are():
    model, seen = task(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        model.losses(seen)["loss"].backward()
        optimizer.step()
    model.eval()
    assert (model.segment(seen["image"]) == seen["segmentation"]).float().mean() > 0.97
    features = model.encoder(seen["image"])
    found = model.slice_presence(features)[0, :, :, 0] > 0
    # class, slice, left or right
    assert found.nonzero().tolist() == [[0, 0, 0], [1, 2, 1]]


@pytest.mark.parametrize("key", ["slice_presence.classify.weight", "encoder.backbone.model.layernorm.weight"])
def test_checkpoints_hold_the_head_and_the_encoder(key, tmp_path):
    model = task()
    model.save_pretrained(tmp_path)
    kept = SegmentationLightningModule.from_pretrained(tmp_path)
    torch.testing.assert_close(kept.state_dict()[key], model.state_dict()[key])
