"""What a slice holds, read from the mean of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.features import Features


class SlicePresenceHead(Component):
    """Tell from the mean token of each slice which classes lie in which part of it.

    R² pooling hands the mean of a slice's tokens on. What is small is lost in a mean unless the
    encoder was taught to keep it, which this head does in pretraining.

    Args:
        level_dims: Channels of the encoder's levels.
        num_classes: Classes without background.
        grid: Parts of a slice along rows and columns; ``(1, 2)`` tells left from right.
        level: Encoder level that is read.

    Shape:
        - Input: :class:`~ct_vlm.features.Features` whose level has the grid ``(D, h, w)``.
        - Output: logits ``(B, num_classes, D, *grid)``.

    Raises:
        ConfigError: If the level does not exist, or the grid is empty.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import SlicePresenceHead
        >>> head = SlicePresenceHead((8,), num_classes=3)
        >>> head(Features([torch.zeros(1, 24, 8)], [(4, 2, 3)])).shape
        torch.Size([1, 3, 4, 1, 2])

    References:
        Ours: pretraining for small slice encoders on phantoms, in place of RAD-DINO.
    """

    def __init__(
        self, level_dims: Sequence[int], num_classes: int, *, grid: tuple[int, int] = (1, 2), level: int = -1
    ) -> None:
        super().__init__()
        if not -len(level_dims) <= level < len(level_dims) or min(grid) < 1:
            cause = f"Expected `level` among the {len(level_dims)} of the encoder and a `grid` of 1 or more, "
            cause += f"but got {level} and {tuple(grid)}."
            raise ConfigError(cause, "Use level -1 and a grid of (1, 2).")
        self.level_dims, self.num_classes = tuple(level_dims), num_classes
        self.grid, self.level = (grid[0], grid[1]), level
        self.classify = nn.Linear(level_dims[level], num_classes * grid[0] * grid[1])
        # most slices lack most classes
        nn.init.constant_(self.classify.bias, -2.0)

    def forward(self, features: Features) -> Tensor:
        """Return class logits of each part of each slice."""
        slices, height, width = features.grids[self.level]
        means = features.levels[self.level].unflatten(1, (slices, height * width)).mean(2)
        return self.classify(means).unflatten(2, (self.num_classes, *self.grid)).transpose(1, 2)
