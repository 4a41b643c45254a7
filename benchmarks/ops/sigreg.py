"""SIGReg of a batch of embeddings: all angles in memory, all of a part of the directions, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from ct_vlm.ops.sigreg import random_directions, sigreg

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

KNOTS = 17
PART = 64
"""Directions that the checkpointed provider handles at a time."""

CASES: list[dict[str, Any]] = [
    {"name": f"n{samples}_d{dim}_m{num}", "samples": samples, "dim": dim, "directions": num}
    for samples, dim, num in ((512, 1024, 1024), (256, 384, 4096))
]


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return embeddings and directions."""
    x = torch.randn(case["samples"], case["dim"], generator=torch.Generator().manual_seed(0))
    directions = random_directions(case["dim"], case["directions"], seed=1)
    return {"x": x.to(device, dtype), "directions": directions.to(device, dtype)}


def _statistic(x: Tensor, directions: Tensor) -> Tensor:
    """Sum the statistics of some directions, written as published."""
    t = torch.linspace(0, 3, KNOTS, dtype=x.dtype, device=x.device)
    normal = torch.exp(-t.square() / 2)
    weights = torch.full_like(t, 2 * 3 / (KNOTS - 1))
    weights[[0, -1]] /= 2
    angles = (x @ directions)[..., None] * t
    error = (angles.cos().mean(0) - normal).square() + angles.sin().mean(0).square()
    return (error @ (weights * normal)).sum() * len(x)


def _naive(inputs: dict[str, Any]) -> Tensor:
    return _statistic(inputs["x"], inputs["directions"]) / inputs["directions"].shape[1]


def _checkpointed(inputs: dict[str, Any]) -> Tensor:
    x, directions = inputs["x"], inputs["directions"]
    parts = [checkpoint(_statistic, x, part, use_reentrant=False) for part in directions.split(PART, dim=1)]
    return torch.stack(parts).sum() / directions.shape[1]


def _ours(inputs: dict[str, Any]) -> Tensor:
    return sigreg(inputs["x"], inputs["directions"], knots=KNOTS)


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": _naive,
    "checkpointed": _checkpointed,
    "ct_vlm": _ours,
}
REFERENCE = "naive"
BASELINE = "naive"
GRADIENTS = ("x",)


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work of the forward pass: the projections, and a rotation and two sums a knot."""
    samples, dim, num = case["samples"], case["dim"], case["directions"]
    flops = 2 * samples * dim * num + 8 * samples * num * KNOTS
    return {"flops": flops, "bytes": (samples * dim + dim * num) * dtype.itemsize}
