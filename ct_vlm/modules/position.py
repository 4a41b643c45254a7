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
        centres = cell_centres(grid, weight.device)
        place = (centres + 1) / 2
        scales = torch.pi * 2.0 ** torch.arange(self.num_frequencies, device=weight.device)
        angles = (place[..., None] * scales).flatten(1)
        return self.proj(torch.cat([centres, angles.sin(), angles.cos()], dim=1).to(weight.dtype))


def cell_centres(grid: tuple[int, int, int], device: torch.device | str = "cpu") -> Tensor:
    """Return the centre of every cell of a grid, from -1 to 1 along D, H and W.

    Args:
        grid: Size ``(D, H, W)``.
        device: Where the result goes.

    Shape:
        - Output: ``(D * H * W, 3)``, D slowest.

    Example:
        >>> from ct_vlm.modules.position import cell_centres
        >>> cell_centres((1, 1, 2))
        tensor([[ 0.0000,  0.0000, -0.5000],
                [ 0.0000,  0.0000,  0.5000]])
    """
    axes = [(2 * torch.arange(size, device=device, dtype=torch.float32) + 1) / size - 1 for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
