"""Segmentation of slices by one linear layer over their patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.features import Features


class PatchSegmentationDecoder(Component):
    """Turn every token of one encoder level into the logits of a small block of its slice.

    The lightest decoder under which a slice encoder learns where things are: what the block shows
    has to be in the token. It takes the place of :class:`~ct_vlm.modules.UNetDecoder` in
    :class:`~ct_vlm.tasks.SegmentationLightningModule`.

    Args:
        level_dims: Channels of the encoder's levels.
        num_classes: Classes with background.
        block: Rows and columns that a token is spread over; with the patch size of the encoder
            logits have the input's resolution.
        level: Encoder level that is read.

    Shape:
        - Input: :class:`~ct_vlm.features.Features` whose level has the grid ``(D, h, w)``.
        - Output: a list of one map of logits, ``(B, num_classes, D, block * h, block * w)``.

    Raises:
        ConfigError: If the level does not exist, or the block is empty.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import PatchSegmentationDecoder
        >>> decoder = PatchSegmentationDecoder((8,), num_classes=3, block=2)
        >>> decoder(Features([torch.zeros(1, 24, 8)], [(4, 2, 3)]))[0].shape
        torch.Size([1, 3, 4, 4, 6])

    References:
        Ours: pretraining for small slice encoders on phantoms, in place of RAD-DINO.
    """

    def __init__(self, level_dims: Sequence[int], num_classes: int, *, block: int = 1, level: int = -1) -> None:
        super().__init__()
        if not -len(level_dims) <= level < len(level_dims) or block < 1:
            cause = f"Expected `level` among the {len(level_dims)} of the encoder and a `block` of 1 or more, "
            cause += f"but got {level} and {block}."
            raise ConfigError(cause, "Use level -1 and the patch size of the encoder.")
        self.level_dims, self.num_classes = tuple(level_dims), num_classes
        self.block, self.level = block, level
        self.classify = nn.Linear(level_dims[level], num_classes * block**2)

    def forward(self, features: Features) -> list[Tensor]:
        """Return logits at the level's grid, each token spread over its block."""
        grid, block = features.grids[self.level], self.block
        logits = self.classify(features.levels[self.level])
        # (B, D, h, w, K, block, block) to (B, K, D, h, block, w, block)
        cells = logits.unflatten(2, (self.num_classes, block, block)).unflatten(1, grid)
        return [cells.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)]
