"""The attention core of zone attention: projected queries, keys and values in, pooled values out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ShapeError
from ct_vlm.ops._ragged import flash_why_not, kernel_why_not, varlen_why_not
from ct_vlm.ops.dispatch import Backend, dispatch, runs_anywhere
from ct_vlm.ops.zone_attention.naive import zone_attention_naive
from ct_vlm.ops.zone_attention.sdpa import zone_attention_sdpa

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from ct_vlm.ops.zone_attention.layout import ZoneLayout


def zone_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, *, scale: float | None = None, backend: str = "auto"
) -> Tensor:
    """Let the queries of every zone attend to the keys of that zone, and to no others.

    No score outside a zone is computed. A zone without keys gives zeros.

    Args:
        query: Projected queries of every zone; may be expanded over volumes.
        key: Projected keys of all volumes, packed.
        value: Projected values, packed alike.
        layout: Where the zones lie.
        scale: Factor of the scores; default one over the root of the head's width.
        backend: ``auto``, ``flash`` (flash-attn), ``varlen`` (PyTorch's packed attention), ``triton``,
            ``sdpa`` or ``naive``.

    Shape:
        - query: ``(B, Z, Q, H, d)``; key, value: ``(T, H, d)``.
        - Output: ``(B, Z, Q, H, d)``.

    Raises:
        ShapeError: If shapes do not fit the layout.
        ConfigError: If the backend cannot run these inputs.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.zone_attention import ZoneLayout, zone_attention
        >>> layout = ZoneLayout((0, 2, 2), num_zones=2)
        >>> key = torch.zeros(2, 1, 2)
        >>> value = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
        >>> zone_attention(torch.zeros(1, 2, 1, 1, 2), key, value, layout).flatten(1)
        tensor([[2., 3., 0., 0.]])

    References:
        Ker-VLJEPA-3B, 2026, https://arxiv.org/abs/2603.23308, Eq. 2 to 4.
    """
    _check(query, key, value, layout)
    scale = float(query.shape[-1]) ** -0.5 if scale is None else scale
    out: Tensor = dispatch("zone_attention", BACKENDS, backend, query, key, value, layout, scale)
    return out


def _flash(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float) -> Tensor:
    from ct_vlm.ops._ragged.adapters import flash_varlen

    return _packed(flash_varlen, query, key, value, layout, scale)


def _varlen(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float) -> Tensor:
    from ct_vlm.ops._ragged.adapters import torch_varlen

    return _packed(torch_varlen, query, key, value, layout, scale)


def _packed(
    run: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float
) -> Tensor:
    """Call an attention over packed sequences, one sequence a zone."""
    from ct_vlm.ops._ragged.adapters import uniform_ends

    num_queries, device = query.shape[2], query.device
    ends = uniform_ends(len(layout.lengths), num_queries, device)
    out = run(query.flatten(0, 2), key, value, ends, layout.offsets(device), num_queries, layout.longest, scale)
    if layout.has_empty:
        # what a kernel leaves in rows without a key is not promised
        out = out.masked_fill(~layout.filled(device, num_queries).view(-1, 1, 1), 0.0)
    return out.view(query.shape)


def _triton(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout, scale: float) -> Tensor:
    from ct_vlm.ops._ragged.kernel import ragged_attention

    offsets = layout.offsets(query.device)
    out = ragged_attention(
        query.flatten(0, 1), key, value, offsets[:-1], offsets.diff(), layout.longest, scale, covers_keys=True
    )
    return out.view(query.shape)


def _check(query: Tensor, key: Tensor, value: Tensor, layout: ZoneLayout) -> None:
    """Raise if shapes do not fit the layout."""
    if query.ndim != 5 or query.shape[:2] != (layout.num_volumes, layout.num_zones):
        cause = f"Expected queries ({layout.num_volumes}, {layout.num_zones}, Q, H, d), but got {tuple(query.shape)}."
        raise ShapeError(cause, "Expand queries that all volumes share, and build the layout from the same batch.")
    expected = (layout.total, *query.shape[3:])
    if key.shape != expected or value.shape != expected:
        cause = f"Expected packed keys and values {expected}, but got {tuple(key.shape)} and {tuple(value.shape)}."
        raise ShapeError(cause, "Pack the valid slices of all volumes one after the other.")


BACKENDS = (
    Backend("flash", _flash, flash_why_not),
    Backend("varlen", _varlen, varlen_why_not),
    Backend("triton", _triton, kernel_why_not),
    Backend("sdpa", zone_attention_sdpa, runs_anywhere),
    Backend("naive", zone_attention_naive, runs_anywhere),
)
"""In order of preference; which order is fastest on a GPU is inferred, not measured."""


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return a small typical call for :func:`ct_vlm.ops.dispatch.explain`: bf16 on CUDA, fp32 elsewhere."""
    import torch

    from ct_vlm.ops.zone_attention.layout import ZoneLayout

    layout = ZoneLayout.even([24, 40], num_zones=8)
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    key = torch.zeros(layout.total, 4, 64, device=device, dtype=dtype)
    query = torch.zeros(2, 8, 4, 4, 64, device=device, dtype=dtype)
    return {"query": query, "key": key, "value": key, "layout": layout, "scale": 0.125}
