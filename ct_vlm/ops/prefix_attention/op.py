"""Attention under the hybrid mask: projected queries, keys and values in, mixed values out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ShapeError
from ct_vlm.ops._ragged import kernel_why_not
from ct_vlm.ops.dispatch import Backend, dispatch, runs_anywhere
from ct_vlm.ops.prefix_attention.naive import prefix_attention_naive
from ct_vlm.ops.prefix_attention.sdpa import prefix_attention_sdpa

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ct_vlm.ops.prefix_attention.layout import PrefixLayout


def prefix_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PrefixLayout,
    *,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Let visual tokens attend to each other in both directions and text to what stands before it.

    A visual token sees all visual tokens of its sample and the text before them; a text token sees
    what stands before it, and itself. Padding on either side is seen by no token, and what its rows
    hold means nothing. With fewer queries than keys, the queries are the last positions: a step of
    decoding, or a further piece of a prompt.

    Args:
        query: Projected queries.
        key: Projected keys, cached ones included; a head may serve several heads of queries.
        value: Projected values, alike.
        layout: Where visual tokens and padding stand; the same object for all layers.
        scale: Factor of the scores; default one over the root of the head's width.
        backend: ``auto``, ``triton``, ``sdpa`` or ``naive``.

    Shape:
        - query: ``(B, H, T, d)``; key, value: ``(B, G, S, d)``, with G dividing H and T <= S.
        - Output: ``(B, H, T, d)``.

    Raises:
        ShapeError: If shapes do not fit together or not the layout.
        ConfigError: If the backend cannot run these inputs.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.prefix_attention import PrefixLayout, prefix_attention
        >>> layout = PrefixLayout(torch.tensor([0]), length=2, total=3)
        >>> value = torch.tensor([1.0, 3.0, 8.0]).view(1, 1, 3, 1)
        >>> prefix_attention(torch.zeros(1, 1, 3, 1), torch.zeros(1, 1, 3, 1), value, layout).flatten()
        tensor([2., 2., 4.])

    References:
        U-VLM, 2026, https://arxiv.org/abs/2603.00479. Differs from the released code: there the
        bidirectional block is shifted by one token.
    """
    _check(query, key, value, layout)
    scale = float(query.shape[-1]) ** -0.5 if scale is None else scale
    out: Tensor = dispatch("prefix_attention", BACKENDS, backend, query, key, value, layout, scale)
    return out


def _triton(query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scale: float) -> Tensor:
    from ct_vlm.ops.prefix_attention.kernel import prefix_attention_triton

    return prefix_attention_triton(query, key, value, layout.starts, layout.valid, layout.length, scale)


def _triton_off(query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scale: float) -> str | None:
    if query.shape[2] == 1:
        return "a single query has no mask to leave out"
    return kernel_why_not(query, key, value, layout, scale)


def _check(query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout) -> None:
    """Raise if shapes do not fit together."""
    fits = query.ndim == key.ndim == 4 and key.shape[:3] == value.shape[:3] and query.shape[3] == key.shape[3]
    if not fits or query.shape[0] != key.shape[0] or query.shape[1] % key.shape[1] or query.shape[2] > key.shape[2]:
        cause = (
            f"Expected queries (B, H, T, d), keys and values (B, G, S, d), but got {tuple(query.shape)}, "
            f"{tuple(key.shape)} and {tuple(value.shape)}."
        )
        raise ShapeError(cause, "G divides H, and T is at most S.")
    if (len(layout.starts), layout.total) != (key.shape[0], key.shape[2]):
        cause = (
            f"The layout is one of {len(layout.starts)} x {layout.total} positions, the keys are {tuple(key.shape)}."
        )
        raise ShapeError(cause, "Build the layout from the same batch; count cached positions.")


BACKENDS = (
    Backend("triton", _triton, _triton_off),
    Backend("sdpa", prefix_attention_sdpa, runs_anywhere),
    Backend("naive", prefix_attention_naive, runs_anywhere),
)
"""In order of preference; which order is fastest on a GPU is inferred, not measured."""


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return a small typical call for :func:`ct_vlm.ops.dispatch.explain`: bf16 on CUDA, fp32 elsewhere."""
    import torch

    from ct_vlm.ops.prefix_attention.layout import PrefixLayout

    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    heads = torch.zeros(1, 2, 64, 64, device=device, dtype=dtype)
    layout = PrefixLayout(torch.ones(1, dtype=torch.long, device=device), 32, 64)
    return {"query": heads, "key": heads, "value": heads, "layout": layout, "scale": 0.125}
