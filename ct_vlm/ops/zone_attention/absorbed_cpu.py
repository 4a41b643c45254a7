"""The absorbed zone block for CPUs: forward and backward written out, zones as views of the packed slices.

Autograd over a slice for every zone costs more than the products themselves. Here nothing is
sliced that needs a gradient of its own: neighbouring zones of equal length are one batched product
on a view, and every gradient is written in place. Shape letters as in ``absorbed.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from ct_vlm.ops.weights import AttentionWeights
from ct_vlm.ops.zone_attention.absorbed import (
    fold,
    project_out,
    project_queries,
    project_values,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ct_vlm.ops.zone_attention.layout import Run, ZoneLayout


def absorbed_cpu(
    queries: Tensor, slices: Tensor, layout: ZoneLayout, weights: AttentionWeights, num_heads: int, scale: float
) -> Tensor:
    """Run the absorbed block; all tensors have one dtype.

    Shape:
        - queries: ``(1 or B, Z, Q, E)``; slices: ``(T, C)``.
        - Output: ``(N * Q, F)``.
    """
    out: Tensor = _AbsorbedBlock.apply(layout, num_heads, scale, queries, slices.contiguous(), *weights)
    return out


def pool_runs(folded: Tensor, slices: Tensor, layout: ZoneLayout) -> tuple[Tensor, Tensor]:
    """Pool the slices of every zone by attention, run by run.

    Shape:
        - folded: ``(1 or B, Z, Q * H, C)``; slices: ``(T, C)``.
        - Output: pooled ``(N, Q * H, C)`` and probabilities ``(T, Q * H)``, a column a query and head.
    """
    rows, channels = folded.shape[2:]
    pooled = slices.new_empty(layout.num_volumes * layout.num_zones, rows, channels)
    probabilities = slices.new_empty(layout.total, rows)
    for run, part in _runs(layout, folded):
        zones = pooled[run.first : run.first + run.zones]
        if run.length == 0:
            zones.zero_()
            continue
        keys, weight = _view(slices, run), _view(probabilities, run)
        torch.bmm(keys, part.transpose(1, 2), out=weight)
        torch.softmax(weight, 1, out=weight)
        torch.bmm(weight.transpose(1, 2), keys, out=zones)
    return pooled, probabilities


def _runs(layout: ZoneLayout, folded: Tensor) -> Iterator[tuple[Run, Tensor]]:
    """Yield every run with its folded queries ``(count, Q * H, C)``."""
    for run in layout.runs:
        volume, zone = divmod(run.first, layout.num_zones)
        yield run, folded[volume if folded.shape[0] > 1 else 0, zone : zone + run.zones]


def _view(packed: Tensor, run: Run) -> Tensor:
    """Return a run's rows as ``(count, length, ...)``."""
    return packed[run.start : run.stop].view(run.zones, run.length, -1)


class _AbsorbedBlock(torch.autograd.Function):
    """Gradients of queries, slices and all weights; that of the key bias is zero, as it has no effect."""

    @staticmethod
    def forward(
        ctx: Any, layout: ZoneLayout, num_heads: int, scale: float, queries: Tensor, slices: Tensor, *parts: Any
    ) -> Tensor:
        weights = AttentionWeights(*parts)
        projected = project_queries(queries.flatten(0, 2), weights, scale)
        folded = fold(projected, weights.key, num_heads).view(*queries.shape[:2], -1, slices.shape[1])
        pooled, probabilities = pool_runs(folded, slices, layout)
        values = project_values(pooled, weights, layout, num_heads)
        ctx.layout, ctx.num_heads, ctx.scale = layout, num_heads, scale
        ctx.save_for_backward(queries, slices, projected, folded, pooled, probabilities, values, *parts)
        return project_out(values, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, slices, projected, folded, pooled, probabilities, values, *parts = ctx.saved_tensors
        weights = AttentionWeights(*parts)
        need_queries, need_slices, *rest = ctx.needs_input_grad[3:]
        need = AttentionWeights(*rest)
        found: dict[str, Tensor | None] = dict.fromkeys(AttentionWeights._fields)
        grad_pooled = _backward_values(ctx, grad, values, pooled, weights, need, found)
        grad_folded, grad_slices = _backward_pool(
            ctx.layout, grad_pooled, slices, folded, probabilities, need_slices=need_slices
        )
        grad_queries = _backward_fold(ctx, grad_folded, queries, projected, weights, need, found)
        if need.key_bias and weights.key_bias is not None:
            found["key_bias"] = torch.zeros_like(weights.key_bias)
        return (None, None, None, grad_queries if need_queries else None, grad_slices, *found.values())


def _backward_values(
    ctx: Any,
    grad: Tensor,
    values: Tensor,
    pooled: Tensor,
    weights: AttentionWeights,
    need: AttentionWeights,
    found: dict[str, Tensor | None],
) -> Tensor:
    """Go back through output and value projection; return the gradient of ``pooled``."""
    layout, num_heads = ctx.layout, ctx.num_heads
    if need.out_bias:
        found["out_bias"] = grad.sum(0)
    if need.out:
        found["out"] = torch.mm(grad.t(), values.t())
    grad_values = torch.mm(weights.out.t(), grad.t())
    if need.value_bias:
        filled = layout.filled(grad.device, pooled.shape[1] // num_heads)
        found["value_bias"] = torch.mv(grad_values, filled.to(grad.dtype))
    heads = grad_values.unflatten(0, (num_heads, -1))
    if need.value:
        rows = pooled.unflatten(1, (-1, num_heads)).flatten(0, 1)
        found["value"] = torch.bmm(heads, rows.transpose(0, 1)).flatten(0, 1)
    by_head = torch.bmm(heads.transpose(1, 2), weights.value.unflatten(0, (num_heads, -1)))
    return by_head.transpose(0, 1).reshape(pooled.shape)


def _backward_pool(
    layout: ZoneLayout,
    grad_pooled: Tensor,
    slices: Tensor,
    folded: Tensor,
    probabilities: Tensor,
    *,
    need_slices: bool,
) -> tuple[Tensor, Tensor | None]:
    """Go back through the pooling; return the gradients of ``folded`` and of the slices."""
    grad_folded = torch.zeros_like(folded)
    grad_slices = torch.empty_like(slices) if need_slices else None
    for (run, part), (_, grad_part) in zip(_runs(layout, folded), _runs(layout, grad_folded), strict=True):
        if run.length == 0:
            continue
        keys, weight = _view(slices, run), _view(probabilities, run)
        grad_zones = grad_pooled[run.first : run.first + run.zones]
        grad_scores = torch.bmm(keys, grad_zones.transpose(1, 2)).mul_(weight)
        grad_scores.addcmul_(weight, grad_scores.sum(1, keepdim=True), value=-1)
        grad_part.baddbmm_(grad_scores.transpose(1, 2), keys)
        if grad_slices is not None:
            grad_keys = _view(grad_slices, run)
            torch.bmm(weight, grad_zones, out=grad_keys)
            grad_keys.baddbmm_(grad_scores, part)
    return grad_folded, grad_slices


def _backward_fold(
    ctx: Any,
    grad_folded: Tensor,
    queries: Tensor,
    projected: Tensor,
    weights: AttentionWeights,
    need: AttentionWeights,
    found: dict[str, Tensor | None],
) -> Tensor:
    """Go back through folding and query projection; return the gradient of the queries."""
    num_heads = ctx.num_heads
    rows = grad_folded.view(-1, num_heads, grad_folded.shape[-1])
    if need.key:
        found["key"] = torch.bmm(projected.unflatten(0, (num_heads, -1)), rows.transpose(0, 1)).flatten(0, 1)
    heads = torch.bmm(weights.key.unflatten(0, (num_heads, -1)), rows.permute(1, 2, 0))
    grad_projected = heads.flatten(0, 1).mul_(ctx.scale)
    if need.query_bias:
        found["query_bias"] = grad_projected.sum(1)
    if need.query:
        found["query"] = torch.mm(grad_projected, queries.flatten(0, 2))
    return torch.mm(grad_projected.t(), weights.query).view(queries.shape)
