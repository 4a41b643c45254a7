"""Zone attention by PyTorch's scaled dot-product attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.zone_attention.layout import ZoneLayout


def zone_attention_sdpa(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float) -> Tensor:
    """Attend run by run on the CPU, and in one call over padded zones on accelerators.

    Shape:
        - query: ``(B, Z, Q, H, d)``; key, value: ``(T, H, d)``.
        - Output: ``(B, Z, Q, H, d)``.
    """
    if layout.total == 0:
        return query * 0 + value.sum() + key.sum()
    by_run = query.device.type == "cpu"
    return (_by_run if by_run else _padded)(query.flatten(0, 1), key, value, layout, scale).view(query.shape)


def _by_run(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float) -> Tensor:
    """Attend to neighbouring zones of equal length at once; keys are views, never gathered.

    The backward of one split is one concatenation, that of a slice a run would be a full tensor each.
    """
    rows = [run.zones * run.length for run in layout.runs]
    queries = query.split([run.zones for run in layout.runs])
    pooled = []
    for run, zones, keys, values in zip(layout.runs, queries, key.split(rows), value.split(rows), strict=True):
        if run.length == 0:
            pooled.append(torch.zeros_like(zones))
            continue
        shape = (run.zones, run.length)
        found = F.scaled_dot_product_attention(
            zones.transpose(1, 2),
            keys.unflatten(0, shape).transpose(1, 2),
            values.unflatten(0, shape).transpose(1, 2),
            scale=scale,
        )
        pooled.append(found.transpose(1, 2))
    return torch.cat(pooled)


def _padded(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float) -> Tensor:
    """Attend to all zones at once, padded to the longest."""
    rows, valid = layout.rows(query.device), layout.valid(query.device)
    # a row without any key is NaN in some of PyTorch's kernels: let it see its padding, then drop it
    filled = valid.any(1).view(-1, 1, 1, 1)
    found = F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key[rows].transpose(1, 2),
        value[rows].transpose(1, 2),
        attn_mask=valid.view(len(valid), 1, 1, -1) | ~filled,
        scale=scale,
    )
    return found.masked_fill(~filled, 0.0).transpose(1, 2)
