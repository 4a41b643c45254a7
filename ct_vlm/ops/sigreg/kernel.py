"""Sums of the characteristic function in Triton: angles live in registers and are turned from knot to knot."""

# kernel arguments are Triton's: pointers and compile-time constants, which have no Python types
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_SAMPLES = 64
BLOCK_DIRECTIONS = 16
SAMPLES_A_PROGRAM = 256


@triton.jit
def _sums_kernel(
    projections,  # u, float32 (V, N, M)
    sums,  # output, float32 (S, 2, V, M, KNOTS), S parts of the samples
    samples,
    directions,
    views,
    spacing,
    KNOTS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    PART: tl.constexpr,
):
    view = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    part = tl.program_id(2).to(tl.int64)
    is_column = column < directions
    knot = tl.arange(0, BLOCK_K)
    cos_sums = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    sin_sums = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    for first in range(0, PART, BLOCK_N):
        sample = part * PART + first + tl.arange(0, BLOCK_N)
        mask = (sample < samples)[:, None] & is_column[None, :]
        place = (view * samples + sample)[:, None] * directions + column[None, :]
        angle = tl.load(projections + place, mask=mask, other=0) * spacing
        cos_step = tl.cos(angle)
        sin_step = tl.sin(angle)
        # rows beyond the samples start at 0 and stay there
        cos = tl.where(mask, 1.0, 0.0)
        sin = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        for k in range(KNOTS):
            here = (knot == k)[None, :]
            cos_sums += tl.where(here, tl.sum(cos, 0)[:, None], 0.0)
            sin_sums += tl.where(here, tl.sum(sin, 0)[:, None], 0.0)
            turned = cos * cos_step - sin * sin_step
            sin = sin * cos_step + cos * sin_step
            cos = turned
    mask = is_column[:, None] & (knot < KNOTS)[None, :]
    size = views * directions * KNOTS
    place = sums + part * 2 * size + (view * directions + column)[:, None] * KNOTS + knot[None, :]
    tl.store(place, cos_sums, mask=mask)
    tl.store(place + size, sin_sums, mask=mask)


@triton.jit
def _gradient_kernel(
    projections,  # u, float32 (V, N, M)
    grad,  # gradient of the sums, float32 (2, V, M, KNOTS)
    out,  # output, float32 (V, N, M)
    samples,
    directions,
    views,
    spacing,
    KNOTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    view = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    sample = tl.program_id(2).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_column = column < directions
    mask = (sample < samples)[:, None] & is_column[None, :]
    place = (view * samples + sample)[:, None] * directions + column[None, :]
    angle = tl.load(projections + place, mask=mask, other=0) * spacing
    cos_step = tl.cos(angle)
    sin_step = tl.sin(angle)
    cos = tl.zeros([BLOCK_N, BLOCK_M], tl.float32) + 1
    sin = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    row = grad + (view * directions + column) * KNOTS
    for k in range(KNOTS):
        grad_cos = tl.load(row + k, mask=is_column, other=0)
        grad_sin = tl.load(row + views * directions * KNOTS + k, mask=is_column, other=0)
        acc += (k * spacing) * (cos * grad_sin[None, :] - sin * grad_cos[None, :])
        turned = cos * cos_step - sin * sin_step
        sin = sin * cos_step + cos * sin_step
        cos = turned
    tl.store(out + place, acc, mask=mask)


def characteristic_sums_triton(projections: Tensor, spacing: float, knots: int) -> Tensor:
    """Sum in float32; arguments and shapes as :func:`.naive.characteristic_sums_naive`."""
    result: Tensor = _CharacteristicSums.apply(projections, spacing, knots)
    return result


class _CharacteristicSums(torch.autograd.Function):
    """Sums over samples by the kernels above; parts of the samples are added in order."""

    @staticmethod
    def forward(ctx: Any, projections: Tensor, spacing: float, knots: int) -> Tensor:
        """Sum."""
        projections = projections.contiguous()
        ctx.save_for_backward(projections)
        ctx.spacing, ctx.knots = spacing, knots
        views, samples, directions = projections.shape
        parts = triton.cdiv(samples, SAMPLES_A_PROGRAM)
        sums = torch.empty(parts, 2, views, directions, knots, dtype=torch.float32, device=projections.device)
        _sums_kernel[(views, triton.cdiv(directions, BLOCK_DIRECTIONS), parts)](
            projections, sums, samples, directions, views, spacing, KNOTS=knots, BLOCK_K=triton.next_power_of_2(knots),
            BLOCK_N=BLOCK_SAMPLES, BLOCK_M=BLOCK_DIRECTIONS, PART=SAMPLES_A_PROGRAM,
        )  # fmt: skip
        return sums.sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Turn the angles again; every element is written once."""
        (projections,) = ctx.saved_tensors
        views, samples, directions = projections.shape
        out = torch.empty_like(projections)
        blocks = (views, triton.cdiv(directions, BLOCK_DIRECTIONS), triton.cdiv(samples, BLOCK_SAMPLES))
        _gradient_kernel[blocks](
            projections, grad.float().contiguous(), out, samples, directions, views, ctx.spacing, KNOTS=ctx.knots,
            BLOCK_N=BLOCK_SAMPLES, BLOCK_M=BLOCK_DIRECTIONS,
        )  # fmt: skip
        return out, None, None
