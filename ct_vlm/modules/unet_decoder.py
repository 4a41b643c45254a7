"""Decoder half of a residual 3D U-Net, with deep supervision.

Paper: U-VLM, https://arxiv.org/abs/2603.00479 (stage 1).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.features import Features


class UNetDecoder(Component):
    """Upsample encoder features to segmentation logits at every used level but the coarsest.

    Args:
        level_dims: Channels of the encoder's levels, fine to coarse.
        strides: Downsampling at the entry of each encoder stage (``strides[0]`` is not used).
        num_classes: Classes with background.
        fuse: How the skip joins: ``"concat"`` (as in the released plans) or ``"add"``.
        finest_level: Encoder level the decoder stops at; above 0, logits are coarser than the
            first level and several times cheaper.

    Shape:
        - Input: :class:`~ct_vlm.features.Features` with ``len(level_dims)`` levels.
        - Output: list of logits ``(B, num_classes, D_l, H_l, W_l)``, fine to coarse.

    Raises:
        ConfigError: If there are fewer than two levels, or ``fuse`` is unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> from ct_vlm.modules import UNetDecoder
        >>> encoder = ResidualUNetEncoder(features=(4, 8, 8), blocks=(1, 1, 1), strides=(1, 2, 2))
        >>> decoder = UNetDecoder((4, 8, 8), (1, 2, 2), num_classes=3)
        >>> [tuple(x.shape[1:]) for x in decoder(encoder(torch.zeros(1, 1, 5, 8, 8)))]
        [(3, 5, 8, 8), (3, 3, 4, 4)]
    """

    def __init__(
        self,
        level_dims: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        fuse: Literal["concat", "add"] = "concat",
        finest_level: int = 0,
    ) -> None:
        super().__init__()
        if len(level_dims) < 2 or len(level_dims) != len(strides):
            cause = f"Expected at least two levels with one stride each, but got {level_dims} and {strides}."
            raise ConfigError(cause, "Pass the encoder's `level_dims` and its `strides`.")
        if fuse not in ("concat", "add"):
            cause = f"Expected `fuse` to be 'concat' or 'add', but got {fuse!r}."
            raise ConfigError(cause, "Use 'concat'.")
        if not 0 <= finest_level < len(level_dims) - 1:
            cause = f"Expected `finest_level` from 0 to {len(level_dims) - 2}, but got {finest_level}."
            raise ConfigError(cause, "The decoder must upsample at least once.")
        self.level_dims = tuple(level_dims)
        self.num_classes = num_classes
        self.fuse = fuse
        self.finest_level = finest_level
        self.ups, self.convs, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for (skip, deep), stride in zip(
            pairwise(level_dims[finest_level:]), list(strides)[finest_level + 1 :], strict=True
        ):
            self.ups.append(nn.ConvTranspose3d(deep, skip, stride, stride))
            self.convs.append(_conv_block(2 * skip if fuse == "concat" else skip, skip))
            self.heads.append(nn.Conv3d(skip, num_classes, 1))

    def forward(self, features: Features) -> list[Tensor]:
        """Return logits of each level, fine to coarse."""
        x = features.map(-1)
        logits: list[Tensor] = []
        for index in range(len(self.ups) - 1, -1, -1):
            skip = features.map(self.finest_level + index)
            # sizes that a stride does not divide were rounded up on the way down: crop on the way up
            up = self.ups[index](x)[..., : skip.shape[2], : skip.shape[3], : skip.shape[4]]
            x = self.convs[index](torch.cat([up, skip], dim=1) if self.fuse == "concat" else up + skip)
            logits.append(self.heads[index](x))
        return logits[::-1]


def _conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, padding=1),
        nn.InstanceNorm3d(out_channels, eps=1e-5, affine=True),
        nn.LeakyReLU(),
    )
