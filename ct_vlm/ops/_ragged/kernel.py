"""Flash attention of segments with equally many queries to ragged runs of keys, in Triton.

Every key belongs to one segment at most, so one program owns every element of every gradient: no
atomics, and the same bits at every run. Scores live in registers only. Row numbers are widened to
64 bits before they are multiplied by a stride: packed batches of many volumes pass 2**31 elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_TILE = 16  # tl.dot multiplies no smaller tiles
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load(base, rows, stride, valid, HEAD: tl.constexpr, BLOCK_D: tl.constexpr):
    """Load rows of one head; rows and channels that do not exist are zero."""
    dims = tl.arange(0, BLOCK_D)[None, :]
    place = base + rows[:, None].to(tl.int64) * stride + dims
    return tl.load(place, mask=valid[:, None] & (dims < HEAD), other=0.0)


@triton.jit
def _store(base, rows, stride, valid, values, HEAD: tl.constexpr, BLOCK_D: tl.constexpr):
    """Store rows of one head, only those that exist."""
    dims = tl.arange(0, BLOCK_D)[None, :]
    place = base + rows[:, None].to(tl.int64) * stride + dims
    tl.store(place, values.to(base.dtype.element_ty), mask=valid[:, None] & (dims < HEAD))


@triton.jit
def _dot(left, right, WIDEN: tl.constexpr):
    """Multiply tiles and sum in fp32; fp32 inputs are not rounded to TF32."""
    if WIDEN:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, input_precision="ieee")


@triton.jit
def ragged_fwd_kernel(
    q,  # queries (N * M, H, d)
    k,  # keys (T, H, d)
    v,  # values (T, H, d)
    out,  # output (N * M, H, d), contiguous
    lse,  # log2 of the sum of exponentials (H, N * M), fp32
    starts,  # first key of a segment (N,)
    lengths,  # keys of a segment (N,)
    scale,  # factor of the scores
    num_queries,  # M
    total_queries,  # N * M
    stride_q,  # elements from row to row, then from head to head
    stride_qh,
    stride_k,
    stride_kh,
    stride_v,
    stride_vh,
    stride_o,
    HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Attend with one block of queries of one segment and head; grid (N, H, query blocks)."""
    segment, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    queries = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
    valid, rows = queries < num_queries, segment * num_queries + queries
    start, length = tl.load(starts + segment), tl.load(lengths + segment)
    query = _load(q + head * stride_qh, rows, stride_q, valid, HEAD, BLOCK_D)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    pooled = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for first in range(0, length, BLOCK_N):
        keys = first + tl.arange(0, BLOCK_N)
        inside = keys < length
        key = _load(k + head * stride_kh, start + keys, stride_k, inside, HEAD, BLOCK_D)
        scores = _dot(query, tl.trans(key), WIDEN) * (scale * LOG2_E)
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(top - higher)
        value = _load(v + head * stride_vh, start + keys, stride_v, inside, HEAD, BLOCK_D)
        pooled = pooled * shrink[:, None] + _dot(weights.to(value.dtype), value, WIDEN)
        total = total * shrink + tl.sum(weights, 1)
        top = higher
    # a segment without keys gives zeros; its sum is never read
    divisor = tl.where(length > 0, total, 1.0)
    _store(out + head * HEAD, rows, stride_o, valid, pooled / divisor[:, None], HEAD, BLOCK_D)
    tl.store(lse + head * total_queries + rows, top + tl.log2(divisor), mask=valid)


@triton.jit
def ragged_bwd_q_kernel(
    q,  # as in the forward kernel
    k,
    v,
    out,
    grad,  # gradient of the output (N * M, H, d), contiguous
    grad_q,  # gradient of the queries (N * M, H, d), contiguous
    lse,
    delta,  # written: sum of output times its gradient (H, N * M), fp32
    starts,
    lengths,
    scale,
    num_queries,
    total_queries,
    stride_q,
    stride_qh,
    stride_k,
    stride_kh,
    stride_v,
    stride_vh,
    stride_o,
    HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Find the gradient of one block of queries, and the row sums that the keys' kernel reads."""
    segment, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    queries = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
    valid, rows = queries < num_queries, segment * num_queries + queries
    start, length = tl.load(starts + segment), tl.load(lengths + segment)
    query = _load(q + head * stride_qh, rows, stride_q, valid, HEAD, BLOCK_D)
    result = _load(out + head * HEAD, rows, stride_o, valid, HEAD, BLOCK_D)
    grad_out = _load(grad + head * HEAD, rows, stride_o, valid, HEAD, BLOCK_D)
    shift = tl.load(lse + head * total_queries + rows, mask=valid, other=float("inf"))
    sums = tl.sum(result.to(tl.float32) * grad_out.to(tl.float32), 1)
    tl.store(delta + head * total_queries + rows, sums, mask=valid)
    found = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for first in range(0, length, BLOCK_N):
        keys = first + tl.arange(0, BLOCK_N)
        inside = keys < length
        key = _load(k + head * stride_kh, start + keys, stride_k, inside, HEAD, BLOCK_D)
        value = _load(v + head * stride_vh, start + keys, stride_v, inside, HEAD, BLOCK_D)
        weights = tl.exp2(_dot(query, tl.trans(key), WIDEN) * (scale * LOG2_E) - shift[:, None])
        # the weight of a key that does not exist may overflow: it must not meet that key's zeros
        weights = tl.where(inside[None, :], weights, 0.0)
        grad_scores = weights * (_dot(grad_out, tl.trans(value), WIDEN) - sums[:, None])
        found += _dot(grad_scores.to(key.dtype), key, WIDEN)
    _store(grad_q + head * HEAD, rows, stride_o, valid, found * scale, HEAD, BLOCK_D)


@triton.jit
def ragged_bwd_kv_kernel(
    q,  # as in the kernel above
    k,
    v,
    grad,
    grad_k,  # gradients of keys and values (T, H, d), contiguous
    grad_v,
    lse,
    delta,
    starts,
    lengths,
    scale,
    num_queries,
    total_queries,
    stride_q,
    stride_qh,
    stride_k,
    stride_kh,
    stride_v,
    stride_vh,
    stride_o,
    HEAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Find the gradients of one block of keys and values; grid (N, H, key blocks)."""
    segment, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    keys = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    start, length = tl.load(starts + segment), tl.load(lengths + segment)
    inside, places = keys < length, start + keys
    key = _load(k + head * stride_kh, places, stride_k, inside, HEAD, BLOCK_D)
    value = _load(v + head * stride_vh, places, stride_v, inside, HEAD, BLOCK_D)
    found_k = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    found_v = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    # a block behind the last key has nothing to find
    stop = tl.where(tl.program_id(2) * BLOCK_N < length, num_queries, 0)
    for first in range(0, stop, BLOCK_M):
        queries = first + tl.arange(0, BLOCK_M)
        valid, rows = queries < num_queries, segment * num_queries + queries
        query = _load(q + head * stride_qh, rows, stride_q, valid, HEAD, BLOCK_D)
        grad_out = _load(grad + head * HEAD, rows, stride_o, valid, HEAD, BLOCK_D)
        # a query that does not exist has no weight: exp2(-inf)
        shift = tl.load(lse + head * total_queries + rows, mask=valid, other=float("inf"))
        sums = tl.load(delta + head * total_queries + rows, mask=valid, other=0.0)
        weights = tl.exp2(_dot(key, tl.trans(query), WIDEN) * (scale * LOG2_E) - shift[None, :])
        weights = tl.where(inside[:, None], weights, 0.0)
        found_v += _dot(weights.to(grad_out.dtype), grad_out, WIDEN)
        grad_scores = weights * (_dot(value, tl.trans(grad_out), WIDEN) - sums[None, :])
        found_k += _dot(grad_scores.to(query.dtype), query, WIDEN)
    _store(grad_k + head * HEAD, places, stride_o, inside, found_k * scale, HEAD, BLOCK_D)
    _store(grad_v + head * HEAD, places, stride_o, inside, found_v, HEAD, BLOCK_D)


def ragged_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    lengths: Tensor,
    longest: int,
    scale: float,
    *,
    covers_keys: bool = False,
) -> Tensor:
    """Let the queries of every segment attend to that segment's run of keys.

    Args:
        query: Queries, equally many a segment.
        key: Keys of all segments; runs must not overlap.
        value: Values of all segments.
        starts: First key of every segment.
        lengths: Keys of every segment; none gives zeros.
        longest: The longest of them, or more.
        scale: Factor of the scores.
        covers_keys: Whether every key is in a run; others get a gradient of zero.

    Shape:
        - query: ``(N, M, H, d)``; key, value: ``(T, H, d)``; starts, lengths: ``(N,)``.
        - Output: ``(N, M, H, d)``.
    """
    out: Tensor = _RaggedAttention.apply(query, key, value, starts, lengths, longest, scale, covers_keys)
    return out


class _RaggedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        starts: Tensor,
        lengths: Tensor,
        longest: int,
        scale: float,
        covers_keys: bool,
    ) -> Tensor:
        shape = query.shape
        query, key, value = _by_rows(query.flatten(0, 1)), _by_rows(key), _by_rows(value)
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        lse = torch.empty(query.shape[1], query.shape[0], dtype=torch.float32, device=query.device)
        ctx.sizes = _Sizes(query, shape, longest)
        ctx.scale, ctx.covers_keys = scale, covers_keys
        if out.numel():
            rest = (lse, starts, lengths, scale, *_strides(shape, query, key, value))
            ragged_fwd_kernel[ctx.sizes.grid_q](query, key, value, out, *rest, **ctx.sizes.tiles)
        ctx.save_for_backward(query, key, value, out, lse, starts, lengths)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse, starts, lengths = ctx.saved_tensors
        grad = grad.contiguous()
        new = torch.empty if ctx.covers_keys else torch.zeros
        grad_q = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        grad_k = new(key.shape, dtype=key.dtype, device=key.device)
        grad_v = new(value.shape, dtype=value.dtype, device=value.device)
        if grad.numel() == 0:
            return grad_q.view(grad.shape), grad_k.zero_(), grad_v.zero_(), None, None, None, None, None
        delta = torch.empty_like(lse)
        rest = (lse, delta, starts, lengths, ctx.scale, *_strides(grad.shape, query, key, value))
        ragged_bwd_q_kernel[ctx.sizes.grid_q](query, key, value, out, grad, grad_q, *rest, **ctx.sizes.tiles)
        if ctx.sizes.grid_k[2]:
            ragged_bwd_kv_kernel[ctx.sizes.grid_k](query, key, value, grad, grad_k, grad_v, *rest, **ctx.sizes.tiles)
        return grad_q.view(grad.shape), grad_k, grad_v, None, None, None, None, None


class _Sizes:
    """Tile sizes and grids of a problem; inferred, not tuned on a GPU."""

    def __init__(self, query: Tensor, shape: torch.Size, longest: int) -> None:
        segments, num_queries, heads, dim = shape
        self.tiles = tile_sizes(query, dim, num_queries, longest)
        self.grid_q = (segments, heads, triton.cdiv(num_queries, self.tiles["BLOCK_M"]))
        self.grid_k = (segments, heads, triton.cdiv(longest, self.tiles["BLOCK_N"]))


def tile_sizes(query: Tensor, dim: int, rows: int, keys: int) -> dict[str, Any]:
    """Return the constants of an attention kernel that depend on sizes and dtype alone.

    Args:
        query: Queries; their dtype and device count.
        dim: Width of a head.
        rows: Queries that share keys.
        keys: Most keys that a query sees.
    """
    block_d = max(SMALLEST_TILE, triton.next_power_of_2(dim))
    # wide heads and wide numbers get narrow tiles: all of a program's must fit into 99 KiB of shared memory,
    # the least that a GPU of compute capability 8 and newer has
    most = (64 if block_d <= 64 else 32) // (2 if query.dtype == torch.float32 else 1)
    return {
        "HEAD": dim,
        "BLOCK_D": block_d,
        "BLOCK_M": min(most, max(SMALLEST_TILE, triton.next_power_of_2(rows))),
        "BLOCK_N": min(most, max(SMALLEST_TILE, triton.next_power_of_2(keys))),
        # Triton's interpreter, which runs on the CPU, multiplies the bits of bf16 numbers as if they were integers
        "WIDEN": query.device.type == "cpu" and query.dtype == torch.bfloat16,
    }


def _by_rows(tensor: Tensor) -> Tensor:
    """Return the tensor with neighbouring channels side by side; other strides stay as they are."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _strides(shape: torch.Size, *tensors: Tensor) -> tuple[int, ...]:
    """Return the sizes and strides that all three kernels take after the scale."""
    segments, num_queries, heads, dim = shape
    inputs = [stride for tensor in tensors for stride in tensor.stride()[:2]]
    return (num_queries, segments * num_queries, *inputs, heads * dim)
