"""Reference for zone attention: one dense masked softmax, as the formula reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.zone_attention.layout import ZoneLayout


def zone_attention_naive(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float) -> Tensor:
    """Compute every score of every query with every key, then mask; any dtype, any device.

    Shape:
        - query: ``(B, Z, Q, H, d)``; key, value: ``(T, H, d)``.
        - Output: ``(B, Z, Q, H, d)``.
    """
    lengths = torch.tensor(layout.lengths, device=query.device)
    zone_of_key = torch.arange(len(lengths), device=query.device).repeat_interleave(lengths)
    inside = zone_of_key == torch.arange(len(lengths), device=query.device).unsqueeze(1)
    inside = inside.view(layout.num_volumes, layout.num_zones, 1, 1, layout.total)
    scores = torch.einsum("bzqhd,thd->bzqht", query, key) * scale
    # softmax over nothing is NaN: an empty zone has no weight anywhere
    weights = torch.softmax(scores.masked_fill(~inside, float("-inf")), -1).masked_fill(~inside, 0.0)
    return torch.einsum("bzqht,thd->bzqhd", weights, value)
