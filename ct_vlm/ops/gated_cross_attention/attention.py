"""The attention of hidden states to a visual memory, one function a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ct_vlm.ops._ragged import flash_why_not, kernel_why_not, varlen_why_not
from ct_vlm.ops.dispatch import Backend, runs_anywhere

if TYPE_CHECKING:
    from torch import Tensor


def attend_naive(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor | None, scale: float) -> Tensor:
    """Compute all scores, mask, softmax and sum as the formula reads; any dtype.

    Shape:
        - query: ``(B, T, H, d)``; key, value: ``(B, M, H, d)``; lengths: ``(B,)`` or None.
        - Output: ``(B, T, H, d)``; zeros for a sample without valid memory.
    """
    scores = torch.einsum("bthd,bmhd->bhtm", query, key) * scale
    valid = _valid(key, lengths)
    # softmax over nothing is NaN: no memory means no weight anywhere
    weights = torch.softmax(scores.masked_fill(~valid, float("-inf")), -1).masked_fill(~valid, 0.0)
    return torch.einsum("bhtm,bmhd->bthd", weights, value)


def attend_sdpa(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor | None, scale: float) -> Tensor:
    """Call PyTorch's scaled dot-product attention; shapes of :func:`attend_naive`."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if lengths is None:
        return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)
    valid = _valid(key.transpose(1, 2), lengths)
    # a row without any key is NaN in some of PyTorch's kernels: let it see its padding, then drop it
    filled = valid.any(-1, keepdim=True)
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=valid | ~filled, scale=scale)
    return found.masked_fill(~filled, 0.0).transpose(1, 2)


def _valid(key: Tensor, lengths: Tensor | None) -> Tensor:
    """Return which memory tokens are valid; **shape** ``(B or 1, 1, 1, M)``, bool."""
    places = torch.arange(key.shape[1], device=key.device)
    found = places < (lengths.unsqueeze(1) if lengths is not None else torch.full_like(places[:1], key.shape[1]))
    return found.view(-1, 1, 1, key.shape[1])


def _attend_triton(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor | None, scale: float) -> Tensor:
    from ct_vlm.ops._ragged.kernel import ragged_attention

    batch, tokens = key.shape[:2]
    starts = torch.arange(batch, dtype=torch.int32, device=key.device) * tokens
    counts = lengths if lengths is not None else torch.full_like(starts, tokens)
    return ragged_attention(
        query, key.flatten(0, 1), value.flatten(0, 1), starts, counts, tokens, scale, covers_keys=lengths is None
    )


def _attend_flash(query: Tensor, key: Tensor, value: Tensor, _: Tensor | None, scale: float) -> Tensor:
    from ct_vlm.ops._ragged.adapters import flash_varlen, uniform_packed

    return uniform_packed(flash_varlen, query, key, value, scale)


def _attend_varlen(query: Tensor, key: Tensor, value: Tensor, _: Tensor | None, scale: float) -> Tensor:
    from ct_vlm.ops._ragged.adapters import torch_varlen, uniform_packed

    return uniform_packed(torch_varlen, query, key, value, scale)


def _flash_off(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor | None, scale: float) -> str | None:
    return flash_why_not(query, key, value, scale) or _ragged_off(lengths)


def _varlen_off(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor | None, scale: float) -> str | None:
    return varlen_why_not(query, key, value, scale) or _ragged_off(lengths)


def _ragged_off(lengths: Tensor | None) -> str | None:
    return None if lengths is None else "masked memory would have to be packed first, which waits for the device"


BACKENDS = (
    Backend("flash", _attend_flash, _flash_off),
    Backend("varlen", _attend_varlen, _varlen_off),
    Backend("triton", _attend_triton, kernel_why_not),
    Backend("sdpa", attend_sdpa, runs_anywhere),
    Backend("naive", attend_naive, runs_anywhere),
)
"""In order of preference; which order is fastest on a GPU is inferred, not measured."""


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return a small typical call for :func:`ct_vlm.ops.dispatch.explain`: bf16 on CUDA, fp32 elsewhere."""
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    key = torch.zeros(2, 32, 4, 64, device=device, dtype=dtype)
    query = torch.zeros(2, 16, 4, 64, device=device, dtype=dtype)
    return {"query": query, "key": key, "value": key, "lengths": None, "scale": 0.125}
