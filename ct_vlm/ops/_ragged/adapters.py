"""Attention over packed sequences by flash-attn 2 or 4 and by PyTorch: one call signature for all."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch

from ct_vlm.ops._ragged import flash_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def flash_varlen(
    query: Tensor, key: Tensor, value: Tensor, ends_q: Tensor, ends_k: Tensor, max_q: int, max_k: int, scale: float
) -> Tensor:
    """Call ``flash_attn_varlen_func`` of the installed flash-attn, without mask and dropout.

    Args:
        query: Packed queries.
        key: Packed keys.
        value: Packed values.
        ends_q: Cumulative query counts, int32.
        ends_k: Cumulative key counts, int32.
        max_q: Queries of the longest sequence.
        max_k: Keys of the longest sequence.
        scale: Factor of the scores.

    Shape:
        - query: ``(Tq, H, d)``; key, value: ``(Tk, H, d)``; ends: ``(N + 1,)``.
        - Output: ``(Tq, H, d)``.
    """
    if flash_version(query.device) == 4:
        from flash_attn.cute import flash_attn_varlen_func
    else:
        from flash_attn import flash_attn_varlen_func
    found = flash_attn_varlen_func(
        query,
        key,
        value,
        cu_seqlens_q=ends_q,
        cu_seqlens_k=ends_k,
        max_seqlen_q=max_q,
        max_seqlen_k=max_k,
        softmax_scale=scale,
        causal=False,
    )
    # version 4 returns the log-sum-exp beside the output, in some releases only on request
    return cast("Tensor", found[0] if isinstance(found, tuple) else found)


def torch_varlen(
    query: Tensor, key: Tensor, value: Tensor, ends_q: Tensor, ends_k: Tensor, max_q: int, max_k: int, scale: float
) -> Tensor:
    """Call ``torch.nn.attention.varlen.varlen_attn``; arguments and shapes of :func:`flash_varlen`."""
    from torch.nn.attention import varlen

    takes_scale, options = _varlen_options(varlen.varlen_attn)
    if takes_scale:
        options = {**options, "scale": scale}
    else:
        # such a release scales by one over the root of the head's width
        query = query * (scale * float(query.shape[-1]) ** 0.5)
    return cast("Tensor", varlen.varlen_attn(query, key, value, ends_q, ends_k, max_q, max_k, **options))


@lru_cache
def _varlen_options(function: Callable[..., Any]) -> tuple[bool, dict[str, Any]]:
    """Return whether this release takes ``scale``, and how it is told that nothing is masked."""
    names = inspect.signature(function).parameters
    return "scale" in names, {"is_causal": False} if "is_causal" in names else {}


def uniform_ends(count: int, length: int, device: torch.device) -> Tensor:
    """Return the cumulative bounds of ``count`` sequences of one length; **shape** ``(count + 1,)``, int32."""
    return torch.arange(count + 1, dtype=torch.int32, device=device) * length


def uniform_packed(run: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Call :func:`flash_varlen` or :func:`torch_varlen` on a batch whose samples are equally long.

    Args:
        run: The one to call.
        query: Queries.
        key: Keys.
        value: Values.
        scale: Factor of the scores.

    Shape:
        - query: ``(B, T, H, d)``; key, value: ``(B, M, H, d)``.
        - Output: ``(B, T, H, d)``.
    """
    batch, max_q, max_k = query.shape[0], query.shape[1], key.shape[1]
    ends_q, ends_k = (uniform_ends(batch, length, query.device) for length in (max_q, max_k))
    packed = (tensor.flatten(0, 1) for tensor in (query, key, value))
    return run(*packed, ends_q, ends_k, max_q, max_k, scale).view(query.shape)
