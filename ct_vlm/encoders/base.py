"""The contract of every encoder: a windowed volume in, ``Features`` out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from ct_vlm.component import Component
from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.features import Features


class Encoder(Component, ABC):
    """Base of the encoders.

    Attributes:
        in_channels: Channels of the input volume.
        level_dims: Channels of each level that ``forward`` returns, fine to coarse.

    Shape:
        - Input: ``(B, C, D, H, W)``.
        - Output: :class:`~ct_vlm.features.Features` with levels ``(B, N_l, C_l)``.
    """

    in_channels: int
    level_dims: tuple[int, ...]

    @abstractmethod
    def forward(self, image: Tensor) -> Features:
        """Encode a windowed volume ``(B, C, D, H, W)``."""


def check_image(image: Tensor, in_channels: int, min_size: tuple[int, int, int] = (1, 1, 1)) -> None:
    """Raise a clear error if a tensor cannot be encoded.

    Args:
        image: Candidate volume.
        in_channels: Channels the encoder expects.
        min_size: Smallest D, H, W the encoder can reduce.

    Raises:
        ShapeError: If rank, channels, size or dtype are wrong.
    """
    if image.ndim != 5:
        cause = f"Expected a volume as (B, C, D, H, W), but got {tuple(image.shape)}."
        raise ShapeError(cause, "Add the batch or channel axis with `unsqueeze`.")
    if image.shape[1] != in_channels:
        cause = f"Expected {in_channels} input channel(s), but got {image.shape[1]}."
        raise ShapeError(cause, "Use a preset with as many HU windows as the encoder's `in_channels`.")
    if any(have < need for have, need in zip(image.shape[2:], min_size, strict=True)):
        cause = f"Expected a volume of at least {min_size} voxels, but got {tuple(image.shape[2:])}."
        raise ShapeError(cause, "Pad or resample the volume, or build the encoder with fewer or smaller strides.")
    if not torch.is_floating_point(image):
        cause = f"Expected a float volume, but got {image.dtype}."
        raise ShapeError(cause, "Window the HU values with `preset.window` first.")
