"""Sums of the characteristic function in plain torch, by rotations of cache-sized tiles.

The knots are equally spaced, so the angles of one knot are those of the last one turned by
``spacing * u``: one cosine and one sine a projection instead of one a projection and knot, and
nothing larger than the projections is ever stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

TILE = {"cpu": 2**17}
"""Elements of a tile: the few arrays of that size that turn stay in the cache."""
LARGE_TILE = 2**24


def characteristic_sums_torch(projections: Tensor, spacing: float, knots: int) -> Tensor:
    """Sum; arguments and shapes as :func:`.naive.characteristic_sums_naive`."""
    result: Tensor = _CharacteristicSums.apply(projections, spacing, knots)
    return result


class _CharacteristicSums(torch.autograd.Function):
    """Sums over samples; the angles are turned again for the gradient."""

    @staticmethod
    def forward(ctx: Any, projections: Tensor, spacing: float, knots: int) -> Tensor:
        """Sum tile by tile."""
        ctx.save_for_backward(projections)
        ctx.spacing, ctx.knots = spacing, knots
        views, _, directions = projections.shape
        sums = projections.new_empty(2, knots, views, directions)
        for view, span in _tiles(projections):
            for k, (cos, sin) in enumerate(_rotations(projections[view, :, span], spacing, knots)):
                torch.sum(cos, 0, out=sums[0, k, view, span])
                torch.sum(sin, 0, out=sums[1, k, view, span])
        return sums.permute(0, 2, 3, 1).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Sum over knots ``t (grad_sin cos - grad_cos sin)``."""
        (projections,) = ctx.saved_tensors
        grad_cos, grad_sin = grad.permute(0, 3, 1, 2).contiguous()
        out = torch.zeros_like(projections)
        for view, span in _tiles(projections):
            into = out[view, :, span]
            for k, (cos, sin) in enumerate(_rotations(projections[view, :, span], ctx.spacing, ctx.knots)):
                t = k * ctx.spacing
                into.addcmul_(cos, grad_sin[k, view, span], value=t)
                into.addcmul_(sin, grad_cos[k, view, span], value=-t)
        return out, None, None


def _tiles(projections: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield views and spans of directions."""
    views, samples, directions = projections.shape
    step = max(1, TILE.get(projections.device.type, LARGE_TILE) // max(samples, 1))
    for view in range(views):
        for first in range(0, directions, step):
            yield view, slice(first, min(first + step, directions))


def _rotations(projections: Tensor, spacing: float, knots: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield cosine and sine of the angles at each knot; they are overwritten by the next one."""
    angles = projections * spacing
    cos_step, sin_step = angles.cos(), angles.sin()
    cos, sin = torch.ones_like(angles), torch.zeros_like(angles)
    spare, product = torch.empty_like(angles), torch.empty_like(angles)
    for k in range(knots):
        yield cos, sin
        if k + 1 < knots:
            torch.mul(sin, sin_step, out=product)
            torch.mul(sin, cos_step, out=spare).addcmul_(cos, sin_step)
            torch.mul(cos, cos_step, out=cos).sub_(product)
            sin, spare = spare, sin
