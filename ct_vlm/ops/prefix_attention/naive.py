"""Reference for attention under the hybrid mask: one dense masked softmax, as the formula reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.prefix_attention.layout import PrefixLayout


def prefix_attention_naive(query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scale: float) -> Tensor:
    """Compute every score of every query with every key, then mask; any dtype, any device.

    Shape:
        - query: ``(B, H, T, d)``; key, value: ``(B, G, S, d)``.
        - Output: ``(B, H, T, d)``.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
    scores = (query @ key.transpose(2, 3)) * scale
    return torch.softmax(scores.masked_fill(~layout.visible(query.shape[2]), float("-inf")), -1) @ value
