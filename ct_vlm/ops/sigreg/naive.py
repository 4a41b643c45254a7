"""Sums of the characteristic function with every angle in memory: what the other paths are checked against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def characteristic_sums_naive(projections: Tensor, spacing: float, knots: int) -> Tensor:
    """Sum cosines and sines of every projection at every knot.

    Args:
        projections: u.
        spacing: Distance of the knots: ``t = 0, spacing, 2 spacing, ...``.
        knots: Number of knots K.

    Shape:
        - projections: ``(V, N, M)``.
        - output: ``(2, V, M, K)``, the sums over N of ``cos(t u)`` and ``sin(t u)``.
    """
    t = torch.arange(knots, device=projections.device, dtype=projections.dtype) * spacing
    angles = projections[..., None] * t
    return torch.stack([angles.cos().sum(1), angles.sin().sum(1)])
