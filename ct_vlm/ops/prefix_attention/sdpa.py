"""Attention under the hybrid mask by PyTorch's scaled dot-product attention, in two exact calls.

The visual rows see all keys up to the last visual one: no mask. The text rows behind them see every
key before them: causal attention that ends at the lower right corner. Text before the visual tokens,
usually a begin-of-text token, is causal among itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.prefix_attention.layout import PrefixLayout, Run

SPLIT_FROM = 256
"""Positions from which two calls on the CPU are faster than one with a dense mask: measured, 4 to 8 samples."""


def prefix_attention_sdpa(query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scale: float) -> Tensor:
    """Attend in two calls a layout, or with a mask where that costs less or padding is scattered.

    Rows of padding on the left are zero; what stands in rows of padding on the right is finite and
    means nothing.

    Shape:
        - query: ``(B, H, T, d)``; key, value: ``(B, G, S, d)``.
        - Output: ``(B, H, T, d)``.
    """
    rows = query.shape[2]
    if rows == 1 and layout.valid is None:
        return _attend(query, key, value, None, scale)
    splits = rows == layout.total and layout.length > 0 and (query.is_cuda or rows >= SPLIT_FROM)
    if not splits or layout.runs is None:
        return _attend(query, key, value, layout.visible(rows), scale)
    if len(layout.runs) == 1:
        return _split(query, key, value, layout, layout.runs[0], scale)
    parts = []
    for run in layout.runs:
        chosen = torch.tensor(run.samples, device=query.device)
        parts.append(_split(query[chosen], key[chosen], value[chosen], layout, run, scale))
    order = [sample for run in layout.runs for sample in run.samples]
    return torch.cat(parts)[torch.tensor(order, device=query.device).argsort()]


def _split(query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, run: Run, scale: float) -> Tensor:
    """Attend with samples that all have the same padding on the left and the same start."""
    if run.skip:
        query, key, value = (tensor[:, :, run.skip :] for tensor in (query, key, value))
    length, start, stop = query.shape[2], run.start, run.start + layout.length
    parts = []
    if run.skip:
        parts.append(query.new_zeros(*query.shape[:2], run.skip, value.shape[3]))
    if start:
        before = query[:, :, :start], key[:, :, :start], value[:, :, :start]
        parts.append(_attend(*before, None, scale, is_causal=True))
    parts.append(_attend(query[:, :, start:stop], key[:, :, :stop], value[:, :, :stop], None, scale))
    if stop < length:
        mask = _lower_right(layout, length - stop, length, cuda=query.is_cuda)
        parts.append(_attend(query[:, :, stop:], key, value, mask, scale))
    # joined with heads innermost, as the kernels lay them out and the output projection reads them
    return torch.cat([part.transpose(1, 2) for part in parts], 1).transpose(1, 2)


def _lower_right(layout: PrefixLayout, rows: int, keys: int, *, cuda: bool) -> Any:
    """Return the causal mask of the last rows: on CUDA an object that flash attention knows, no tensor."""
    if not cuda:
        return layout.causal(rows, keys)
    from torch.nn.attention.bias import causal_lower_right

    return causal_lower_right(rows, keys)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Any, scale: float, *, is_causal: bool = False) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=grouped
    )
