"""Token projector: one encoder level, pooled to a grid and projected to the decoder's width.

Paper: U-VLM, https://arxiv.org/abs/2603.00479 (visual tokens of a stage).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

_POOLS = ("avg", "max", "avg_max")


class VisualTokenProjector(Component):
    """Resample a feature map to a token grid, then LayerNorm, two-layer GELU MLP and LayerNorm.

    A map finer than the grid is pooled, a coarser one is interpolated trilinearly, so token n of
    every level stands for the same place of the body.

    Args:
        in_dim: Channels C of the feature map.
        embed_dim: Width E of the decoder.
        hidden_dim: Width of the MLP.
        pool: ``"avg"`` (the paper's), ``"max"``, or ``"avg_max"`` (both, concatenated), which
            keeps findings much smaller than a cell.

    Shape:
        - Input: map ``(B, C, D, H, W)`` and grid ``(d, h, w)``.
        - Output: ``(B, d * h * w, E)``.

    Raises:
        ConfigError: If ``pool`` is unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import VisualTokenProjector
        >>> VisualTokenProjector(4, 16)(torch.zeros(1, 4, 5, 6, 7), (2, 2, 2)).shape
        torch.Size([1, 8, 16])

    References:
        U-VLM, arXiv 2603.00479, authors' code. Differs from it: levels coarser than the grid are
        interpolated in place instead of being zero-padded at the end.
    """

    def __init__(
        self, in_dim: int, embed_dim: int, hidden_dim: int = 1024, *, pool: Literal["avg", "max", "avg_max"] = "avg"
    ) -> None:
        super().__init__()
        if pool not in _POOLS:
            cause = f"Expected `pool` to be one of {_POOLS}, but got {pool!r}."
            raise ConfigError(cause, "Use 'avg'.")
        self.pool = pool
        width = 2 * in_dim if pool == "avg_max" else in_dim
        self.norm_in = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, embed_dim))
        self.norm_out = nn.LayerNorm(embed_dim, eps=1e-6)

    def forward(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Return the tokens of one level on the given grid."""
        return self.norm_out(self.mlp(self.norm_in(self._resample(x, grid).flatten(2).transpose(1, 2))))

    def _resample(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        dtype, x = x.dtype, x.float()  # the CPU has no bf16 pooling
        size = tuple(max(have, want) for have, want in zip(x.shape[2:], grid, strict=True))
        if size != tuple(x.shape[2:]):
            x = F.interpolate(x, size=size, mode="trilinear", align_corners=False)
        pooled = []
        if self.pool != "max":
            pooled.append(F.adaptive_avg_pool3d(x, grid))
        if self.pool != "avg":
            pooled.append(F.adaptive_max_pool3d(x, grid))
        return torch.cat(pooled, dim=1).to(dtype)
