"""Position embedding of a 3D token grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ct_vlm.component import Component


class GridPositionEmbedding(Component):
    """Learned projection of Fourier features of each token's relative place in the volume.

    The features depend on the place relative to the volume (0 to 1 along D, H and W), so one
    embedding serves every grid, and levels of different resolution agree on where they are.

    Args:
        embed_dim: Width of the embedding.
        num_frequencies: Sine and cosine pairs an axis, at 1, 2, 4, ... half-periods.

    Shape:
        - Input: grid ``(D, H, W)``.
        - Output: ``(D * H * W, embed_dim)``.

    Example:
        >>> from ct_vlm.modules import GridPositionEmbedding
        >>> GridPositionEmbedding(8)((2, 3, 4)).shape
        torch.Size([24, 8])
    """

    def __init__(self, embed_dim: int, num_frequencies: int = 4) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.proj = nn.Linear(3 * (2 * num_frequencies + 1), embed_dim)

    def forward(self, grid: tuple[int, int, int]) -> Tensor:
        """Return the embedding of every cell of the grid, D slowest."""
        weight = self.proj.weight
        axes = [(torch.arange(size, device=weight.device, dtype=torch.float32) + 0.5) / size for size in grid]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)  # (N, 3)
        scales = torch.pi * 2.0 ** torch.arange(self.num_frequencies, device=weight.device)
        angles = (place[..., None] * scales).flatten(1)
        return self.proj(torch.cat([2 * place - 1, angles.sin(), angles.cos()], dim=1).to(weight.dtype))
