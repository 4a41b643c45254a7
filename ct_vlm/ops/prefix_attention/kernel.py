"""Flash attention under the hybrid mask in Triton: the mask is a rule, and tiles it hides are not computed.

One program owns every element of every gradient: no atomics, and the same bits at every run. Row
numbers are widened to 64 bits before they are multiplied by a stride.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from ct_vlm.ops._ragged.kernel import LOG2_E, _dot, _load, _store, tile_sizes

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit
def _seen(rows, keys, begin, end, valid, total, PADDED: tl.constexpr):
    """Tell which keys (columns) the rows see; padding sees itself."""
    visual = ((rows >= begin) & (rows < end))[:, None] & ((keys >= begin) & (keys < end))[None, :]
    seen = ((keys[None, :] <= rows[:, None]) | visual) & (keys < total)[None, :]
    if PADDED:
        real = tl.load(valid + keys, mask=keys < total, other=0) != 0
        seen = (seen & real[None, :]) | (keys[None, :] == rows[:, None])
    return seen


@triton.jit
def _last(first, low, begin, end, num_rows, total, BLOCK_M: tl.constexpr):
    """Return where the keys of a block of rows end: behind its last row, or behind the visual tokens."""
    stop = tl.minimum(first + BLOCK_M, num_rows) + total - num_rows
    return tl.where((low < end) & (stop > begin), tl.maximum(stop, end), stop)


@triton.jit
def _earliest(low, begin, end, num_rows, total, BLOCK_N: tl.constexpr):
    """Return the first row that sees a block of keys: rows before a key see it only if both are visual."""
    position = tl.where((low < end) & (low + BLOCK_N > begin), tl.minimum(low, begin), low)
    return tl.maximum(position - (total - num_rows), 0)


@triton.jit
def _gradients(query, key, value, grad_out, shift, sums, seen, scale, WIDEN: tl.constexpr):
    """Return the weights of a tile and the gradient of its scores."""
    weights = tl.exp2(_dot(query, tl.trans(key), WIDEN) * (scale * LOG2_E) - shift[:, None])
    # the weight of a hidden key may overflow: it must not meet anything
    weights = tl.where(seen, weights, 0.0)
    return weights, weights * (_dot(grad_out, tl.trans(value), WIDEN) - sums[:, None])


@triton.jit
def prefix_fwd_kernel(
    q,  # queries (B, H, T, d)
    k,  # keys (B, G, S, d)
    v,  # values (B, G, S, d)
    out,  # output (B, H, T, d), laid out as (B, T, H, d)
    lse,  # log2 of the sum of exponentials (B, H, T), fp32
    starts,  # first visual token of a sample (B,)
    valid,  # whether a position is a token (B, S), bytes; not read unless PADDED
    scale,  # factor of the scores
    length,  # visual tokens a sample
    num_rows,  # T, the last positions
    total,  # S
    stride_qb,  # elements from sample to sample, then from head to head, then from row to row
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    GROUP: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDEN: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Attend with one block of queries of one head; grid (B, H, query blocks)."""
    batch, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    first = tl.program_id(2) * BLOCK_M
    places = first + tl.arange(0, BLOCK_M)
    exists, rows = places < num_rows, places + (total - num_rows)
    begin = tl.load(starts + batch)
    query = _load(q + batch * stride_qb + head * stride_qh, places, stride_qt, exists, HEAD, BLOCK_D)
    k += batch * stride_kb + (head // GROUP) * stride_kh
    v += batch * stride_vb + (head // GROUP) * stride_vh
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    sums = tl.zeros([BLOCK_M], tl.float32)
    pooled = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    end = begin + length
    for block in range(0, _last(first, first + total - num_rows, begin, end, num_rows, total, BLOCK_M), BLOCK_N):
        keys = block + tl.arange(0, BLOCK_N)
        key = _load(k, keys, stride_ks, keys < total, HEAD, BLOCK_D)
        scores = _dot(query, tl.trans(key), WIDEN) * (scale * LOG2_E)
        seen = _seen(rows, keys, begin, end, valid + batch * total, total, PADDED)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        # a row that has not seen any key yet: no infinity may be taken from another
        base = tl.where(higher == float("-inf"), 0.0, higher)
        weights, shrink = tl.exp2(scores - base[:, None]), tl.exp2(top - base)
        value = _load(v, keys, stride_vs, keys < total, HEAD, BLOCK_D)
        pooled = pooled * shrink[:, None] + _dot(weights.to(value.dtype), value, WIDEN)
        sums = sums * shrink + tl.sum(weights, 1)
        top = higher
    # rows behind the last one may have seen nothing; they are not stored
    sums = tl.where(exists, sums, 1.0)
    place = out + (batch * num_rows * tl.num_programs(1) + head) * HEAD
    _store(place, places, tl.num_programs(1) * HEAD, exists, pooled / sums[:, None], HEAD, BLOCK_D)
    tl.store(lse + (batch * tl.num_programs(1) + head) * num_rows + places, top + tl.log2(sums), mask=exists)


@triton.jit
def prefix_bwd_q_kernel(
    q,  # as in the forward kernel
    k,
    v,
    out,
    grad,  # gradient of the output (B, H, T, d), laid out alike
    grad_q,  # gradient of the queries (B, H, T, d), laid out alike
    lse,
    delta,  # written: sum of output times its gradient (B, H, T), fp32
    starts,
    valid,
    scale,
    length,
    num_rows,
    total,
    stride_qb,
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    GROUP: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDEN: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Find the gradient of one block of queries, and the row sums that the keys' kernel reads."""
    batch, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    first = tl.program_id(2) * BLOCK_M
    places = first + tl.arange(0, BLOCK_M)
    exists, rows = places < num_rows, places + (total - num_rows)
    begin = tl.load(starts + batch)
    end = begin + length
    query = _load(q + batch * stride_qb + head * stride_qh, places, stride_qt, exists, HEAD, BLOCK_D)
    offset, stride_o = (batch * num_rows * tl.num_programs(1) + head) * HEAD, tl.num_programs(1) * HEAD
    result = _load(out + offset, places, stride_o, exists, HEAD, BLOCK_D)
    grad_out = _load(grad + offset, places, stride_o, exists, HEAD, BLOCK_D)
    line = (batch * tl.num_programs(1) + head) * num_rows
    shift = tl.load(lse + line + places, mask=exists, other=float("inf"))
    sums = tl.sum(result.to(tl.float32) * grad_out.to(tl.float32), 1)
    tl.store(delta + line + places, sums, mask=exists)
    k += batch * stride_kb + (head // GROUP) * stride_kh
    v += batch * stride_vb + (head // GROUP) * stride_vh
    found = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for block in range(0, _last(first, first + total - num_rows, begin, end, num_rows, total, BLOCK_M), BLOCK_N):
        keys = block + tl.arange(0, BLOCK_N)
        key = _load(k, keys, stride_ks, keys < total, HEAD, BLOCK_D)
        value = _load(v, keys, stride_vs, keys < total, HEAD, BLOCK_D)
        seen = _seen(rows, keys, begin, end, valid + batch * total, total, PADDED)
        _, grad_scores = _gradients(query, key, value, grad_out, shift, sums, seen, scale, WIDEN)
        found += _dot(grad_scores.to(key.dtype), key, WIDEN)
    _store(grad_q + offset, places, stride_o, exists, found * scale, HEAD, BLOCK_D)


@triton.jit
def prefix_bwd_kv_kernel(
    q,  # as in the kernel above
    k,
    v,
    grad,
    grad_k,  # gradients of keys and values (B, G, S, d), contiguous
    grad_v,
    lse,
    delta,
    starts,
    valid,
    scale,
    length,
    num_rows,
    total,
    stride_qb,
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    GROUP: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDEN: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Find the gradients of one block of keys and values; grid (B, G, key blocks)."""
    batch, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    low = tl.program_id(2) * BLOCK_N
    keys = low + tl.arange(0, BLOCK_N)
    begin, end, inside = tl.load(starts + batch), tl.load(starts + batch) + length, keys < total
    key = _load(k + batch * stride_kb + group * stride_kh, keys, stride_ks, inside, HEAD, BLOCK_D)
    value = _load(v + batch * stride_vb + group * stride_vh, keys, stride_vs, inside, HEAD, BLOCK_D)
    found_k, found_v = tl.zeros([BLOCK_N, BLOCK_D], tl.float32), tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    earliest = _earliest(low, begin, end, num_rows, total, BLOCK_N)
    heads = tl.num_programs(1).to(tl.int64) * GROUP
    for head in range(group * GROUP, group * GROUP + GROUP):
        line = (batch * heads + head) * num_rows
        for first in range(earliest, num_rows, BLOCK_M):
            places = first + tl.arange(0, BLOCK_M)
            exists, rows = places < num_rows, places + (total - num_rows)
            query = _load(q + batch * stride_qb + head * stride_qh, places, stride_qt, exists, HEAD, BLOCK_D)
            grad_out = _load(
                grad + (batch * num_rows * heads + head) * HEAD, places, heads * HEAD, exists, HEAD, BLOCK_D
            )
            # a row that does not exist has no weight: exp2(-inf)
            shift = tl.load(lse + line + places, mask=exists, other=float("inf"))
            sums = tl.load(delta + line + places, mask=exists, other=0.0)
            seen = _seen(rows, keys, begin, end, valid + batch * total, total, PADDED)
            weights, grad_scores = _gradients(query, key, value, grad_out, shift, sums, seen, scale, WIDEN)
            found_v += _dot(tl.trans(weights.to(grad_out.dtype)), grad_out, WIDEN)
            found_k += _dot(tl.trans(grad_scores.to(query.dtype)), query, WIDEN)
    offset = (batch * tl.num_programs(1) + group) * total * HEAD
    _store(grad_k + offset, keys, HEAD, inside, found_k * scale, HEAD, BLOCK_D)
    _store(grad_v + offset, keys, HEAD, inside, found_v, HEAD, BLOCK_D)


def prefix_attention_triton(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, valid: Tensor | None, length: int, scale: float
) -> Tensor:
    """Attend under the hybrid mask.

    Args:
        query: Queries, those of the last positions.
        key: Keys.
        value: Values.
        starts: First visual token of every sample.
        valid: Whether a position is a token; None means that all are.
        length: Visual tokens a sample.
        scale: Factor of the scores.

    Shape:
        - query: ``(B, H, T, d)``; key, value: ``(B, G, S, d)``; starts: ``(B,)``; valid: ``(B, S)``.
        - Output: ``(B, H, T, d)``.
    """
    out: Tensor = _PrefixAttention.apply(query, key, value, starts, valid, length, scale)
    return out


class _PrefixAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        starts: Tensor,
        valid: Tensor | None,
        length: int,
        scale: float,
    ) -> Tensor:
        query, key, value = (t if t.stride(-1) == 1 else t.contiguous() for t in (query, key, value))
        out = _rows_first(query)
        lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
        places = (starts.int(), starts.int() if valid is None else valid.to(torch.uint8).contiguous())
        ctx.sizes = _Sizes(query, key, padded=valid is not None)
        ctx.numbers = (scale, length, *ctx.sizes.strides(query, key, value))
        if out.numel():
            tensors = (query, key, value, out, lse, *places)
            prefix_fwd_kernel[ctx.sizes.grid_q](*tensors, *ctx.numbers, **ctx.sizes.constants)
        ctx.save_for_backward(query, key, value, out, lse, *places)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse, *places = ctx.saved_tensors
        grad_q, delta = _rows_first(query), torch.empty_like(lse)
        grad_k = torch.empty(key.shape, dtype=key.dtype, device=key.device)
        grad_v = torch.empty(value.shape, dtype=value.dtype, device=value.device)
        # the kernels read the gradient as the output is laid out
        grad = _rows_first(query).copy_(grad) if grad.stride() != out.stride() else grad
        rest = (lse, delta, *places, *ctx.numbers)
        if out.numel():
            prefix_bwd_q_kernel[ctx.sizes.grid_q](query, key, value, out, grad, grad_q, *rest, **ctx.sizes.constants)
            prefix_bwd_kv_kernel[ctx.sizes.grid_k](
                query, key, value, grad, grad_k, grad_v, *rest, **ctx.sizes.constants
            )
        else:
            grad_k.zero_(), grad_v.zero_()
        return grad_q, grad_k, grad_v, None, None, None, None


class _Sizes:
    """Tile sizes and grids of a problem; inferred, not tuned on a GPU."""

    def __init__(self, query: Tensor, key: Tensor, *, padded: bool) -> None:
        batch, heads, rows, dim = query.shape
        groups, total = key.shape[1:3]
        tiles = tile_sizes(query, dim, rows, total)
        self.constants = {"GROUP": heads // groups, "PADDED": padded, **tiles}
        self.grid_q = (batch, heads, triton.cdiv(rows, tiles["BLOCK_M"]))
        self.grid_k = (batch, groups, triton.cdiv(total, tiles["BLOCK_N"]))

    @staticmethod
    def strides(query: Tensor, key: Tensor, value: Tensor) -> tuple[int, ...]:
        """Return the sizes and strides that all three kernels take."""
        found = [stride for tensor in (query, key, value) for stride in tensor.stride()[:3]]
        return (query.shape[2], key.shape[2], *found)


def _rows_first(query: Tensor) -> Tensor:
    """Return an uninitialised tensor like the queries, heads innermost: the output projection reads it so."""
    batch, heads, rows, dim = query.shape
    return torch.empty(batch, rows, heads, dim, dtype=query.dtype, device=query.device).transpose(1, 2)
