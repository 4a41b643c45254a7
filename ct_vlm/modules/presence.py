"""Cell-wise presence of classes on encoder levels: the evidence that pooling can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.features import Features


class PresenceHead(Component):
    """Tell for every cell of some encoder levels which classes have a voxel in it.

    Stage 1 trains it beside the segmentation decoder; stage 2 takes it over, so that the label
    queries start out knowing where to look.

    Args:
        level_dims: Channels of the encoder's levels, fine to coarse.
        levels: Levels to classify.
        num_classes: Classes without background.

    Shape:
        - Input: :class:`~ct_vlm.features.Features`.
        - Output: one ``(B, N_l, num_classes)`` a level.

    Raises:
        ConfigError: If a level does not exist.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import PresenceHead
        >>> head = PresenceHead((4, 8), levels=(-1,), num_classes=3)
        >>> head(Features([torch.zeros(1, 8, 4), torch.zeros(1, 1, 8)], [(2, 2, 2), (1, 1, 1)]))[0].shape
        torch.Size([1, 1, 3])

    References:
        Ours; the U-VLM paper supervises the decoder's levels only.
    """

    def __init__(self, level_dims: Sequence[int], levels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        if any(not -len(level_dims) <= level < len(level_dims) for level in levels):
            cause = f"`levels` {tuple(levels)} names a level that an encoder with {len(level_dims)} levels lacks."
            raise ConfigError(cause, "Count from 0 (finest) or from -1 (coarsest).")
        self.level_dims, self.levels, self.num_classes = tuple(level_dims), tuple(levels), num_classes
        self.classifiers = nn.ModuleList(_classifier(level_dims[level], num_classes) for level in levels)

    def forward(self, features: Features) -> list[Tensor]:
        """Return class logits of each level's cells."""
        pairs = zip(self.levels, self.classifiers, strict=True)
        return [classifier(features.levels[level]) for level, classifier in pairs]


def _classifier(in_dim: int, num_classes: int) -> nn.Linear:
    """Return a linear layer that starts near the rate of most classes, which most cells lack."""
    layer = nn.Linear(in_dim, num_classes)
    nn.init.constant_(layer.bias, -2.0)
    return layer
