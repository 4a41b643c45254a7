"""Volume to cubes by one permutation: the reference, and the path for GPUs and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from einops import rearrange

if TYPE_CHECKING:
    from torch import Tensor


def volume_to_cubes_naive(volume: Tensor, temporal: int, patch: int, merge: int) -> Tensor:
    """Cut; arguments and shapes as :func:`.volume_to_cubes`, with one leading axis."""
    return rearrange(
        volume,
        "b (d t) (h a p) (w c q) -> b (d h w a c) (t p q)",
        t=temporal,
        a=merge,
        c=merge,
        p=patch,
        q=patch,
    ).contiguous()
