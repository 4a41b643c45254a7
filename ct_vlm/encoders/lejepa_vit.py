"""The slice encoder of Ker-VLJEPA-3B: a vision transformer with one input channel, trained from scratch.

Weights: the model card of the encoder and its public loading code; no weights are fetched here.
"""

from __future__ import annotations

from typing import Any, Literal

from ct_vlm.encoders.slice_encoder import SliceEncoder
from ct_vlm.errors import ConfigError

BACKBONES: dict[str, dict[str, Any]] = {
    # 303,966,208 parameters, 1024 wide, 24 blocks, LayerScale, no registers
    "paper": {"timm": "vit_large_patch14_dinov2", "img_size": 518},
    # ours: learns on slices of 48 x 48 pixels on one CPU core
    "tiny": {
        "timm": "vit_tiny_patch16_224",
        "img_size": 48,
        "patch_size": 6,
        "embed_dim": 96,
        "depth": 3,
        "num_heads": 3,
    },
}
"""Arguments of ``timm.create_model`` by size."""
DEPTHS = {"paper": 24, "tiny": 3}
"""Blocks by size."""


def lejepa_vit(
    size: Literal["tiny", "paper"] = "tiny",
    *,
    in_channels: int = 1,
    frozen: bool = False,
    chunk_size: int = 64,
    gradient_checkpointing: bool = False,
) -> SliceEncoder:
    """Build the slice encoder that LeJEPA trains, with random weights.

    The embedding of a slice is its class token after the final norm:
    ``encoder.encode(image)[1][-1][:, :, 0]``.

    Args:
        size: ``"paper"`` or ``"tiny"`` (ours).
        in_channels: Channels of the slices (HU windows; the paper's is one).
        frozen: Whether it trains no more.
        chunk_size: Slices or views in one pass.
        gradient_checkpointing: Recompute each chunk in the backward pass.

    Shape:
        - Input of the encoder: ``(B, C, D, H, W)``; sides are brought to multiples of the patch.
        - Output: one level ``(B, D * h * w, dim)``; class tokens ``(B, D, 1, dim)`` by ``encode``.

    Raises:
        ConfigError: If the size is unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import lejepa_vit
        >>> encoder = lejepa_vit("tiny", frozen=True)
        >>> encoder.encode(torch.rand(1, 1, 5, 48, 48))[1][-1][:, :, 0].shape
        torch.Size([1, 5, 96])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, and the loading code of its encoder (DALE-CT, arXiv 2606.07775):
        ``vit_large_patch14_dinov2`` of timm, 518 pixels, dynamic size, one channel, random weights.
    """
    if size not in BACKBONES:
        cause = f"Unknown size {size!r}."
        raise ConfigError(cause, f"Choose one of {sorted(BACKBONES)}.")
    return SliceEncoder(
        {**BACKBONES[size], "in_chans": in_channels},
        layers=(DEPTHS[size],),
        in_channels=in_channels,
        frozen=frozen,
        chunk_size=chunk_size,
        gradient_checkpointing=gradient_checkpointing,
    )
