"""Residual 3D U-Net encoder.

Paper: U-VLM, https://arxiv.org/abs/2603.00479 (encoder of all three stages).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

from ct_vlm.encoders.base import Encoder, check_image
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class ResidualBlock3d(nn.Module):
    """Two 3×3×3 convolutions with instance norm and a residual sum.

    Where the stride is not one, the skip path pools, so that no voxel is left out of it; where the
    channels change, a 1×1×1 convolution follows (nnU-Net's ResEnc block).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Downsampling factor of D, H and W.

    Shape:
        - Input: ``(B, C_in, D, H, W)``.
        - Output: ``(B, C_out, ceil(D / stride), ceil(H / stride), ceil(W / stride))``.

    Example:
        >>> import torch
        >>> ResidualBlock3d(4, 8, stride=2)(torch.zeros(1, 4, 5, 6, 7)).shape
        torch.Size([1, 8, 3, 3, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_norm(in_channels, out_channels, 3, stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, 1)
        skip: list[nn.Module] = []
        if stride > 1:
            skip.append(_MeanPool3d(stride))
        if in_channels != out_channels:
            skip.append(conv_norm(in_channels, out_channels, 1, 1, bias=False))
        self.skip = nn.Sequential(*skip)
        self.act = nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum of the convolved and the skipped input."""
        return self.act(self.conv2(self.act(self.conv1(x))) + self.skip(x))


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int, *, bias: bool = True) -> nn.Sequential:
    """Return a same-padded 3D convolution followed by an affine instance norm."""
    conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=bias)
    return nn.Sequential(conv, _InstanceNorm3d(out_channels, eps=1e-5, affine=True))


class _MeanPool3d(nn.Module):
    """Mean pooling that rounds sizes up and leaves an axis of one voxel as it is."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        kernel = [min(self.stride, size) for size in x.shape[2:]]
        # the CPU has no bf16 average pooling
        return F.avg_pool3d(x.float(), kernel, kernel, ceil_mode=True, count_include_pad=False).to(x.dtype)


class _InstanceNorm3d(nn.InstanceNorm3d):
    """Instance norm that also accepts a map of a single voxel in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        if x[0, 0].numel() > 1:
            return super().forward(x)
        # a single voxel has no spatial variance: its normalised value is 0, which leaves the bias
        return x * 0 + self.bias.view(1, -1, 1, 1, 1)


class ResidualUNetEncoder(Encoder):
    """Encoder half of a residual 3D U-Net; returns the feature map of every stage.

    The defaults are the paper's: 6 stages, 90.30 M parameters, total stride 32.

    Args:
        in_channels: Channels of the volume (one per HU window).
        features: Channels of each stage.
        blocks: Residual blocks of each stage; 0 lets a stage pass its input on (same channels,
            stride 1), which makes a full-resolution first stage cheap.
        strides: Downsampling at the entry of each stage.
        stem_kernel: Kernel of the stem convolution.
        stem_stride: Stride of the stem (the paper's is 1; a larger one makes small models fast).

    Shape:
        - Input: ``(B, C, D, H, W)``.
        - Output: one level a stage, ``(B, N_l, features[l])``.

    Raises:
        ConfigError: If ``features``, ``blocks`` and ``strides`` differ in length, or a stage without
            blocks changes channels or size.
        ShapeError: If the volume has another rank, dtype or channel count.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> encoder = ResidualUNetEncoder(features=(4, 8), blocks=(1, 1), strides=(1, 2))
        >>> [tuple(level.shape) for level in encoder(torch.zeros(1, 1, 4, 6, 6)).levels]
        [(1, 144, 4), (1, 18, 8)]

    References:
        U-VLM, arXiv 2603.00479; stage sizes from the authors' released plan. Volumes of any size
        are accepted: a size that a stride does not divide is rounded up.
    """

    def __init__(
        self,
        in_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        blocks: Sequence[int] = (1, 3, 4, 6, 6, 6),
        strides: Sequence[int] = (1, 2, 2, 2, 2, 2),
        *,
        stem_kernel: int = 3,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        if not len(features) == len(blocks) == len(strides) or not features:
            cause = (
                f"Expected one entry a stage, but got {len(features)} `features`, {len(blocks)} `blocks` "
                f"and {len(strides)} `strides`."
            )
            raise ConfigError(cause, "Give the three lists the same length.")
        self.in_channels = in_channels
        self.level_dims = tuple(features)
        self.level_strides = _cumulative(stem_stride, strides)
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, features[0], stem_kernel, stem_stride, padding=(stem_kernel - 1) // 2),
            _InstanceNorm3d(features[0], eps=1e-5, affine=True),
            nn.LeakyReLU(),
        )
        stages, width = [], features[0]
        for channels, depth, stride in zip(features, blocks, strides, strict=True):
            stages.append(_stage(width, channels, depth, stride))
            width = channels
        self.stages = nn.ModuleList(stages)

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return the feature map of each stage, fine to coarse."""
        check_image(image, self.in_channels)
        x, maps = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, image: Tensor) -> Features:
        """Encode a volume into one token map a stage."""
        return Features.from_maps(self.maps(image))


def _stage(in_channels: int, out_channels: int, depth: int, stride: int) -> nn.Sequential:
    if depth == 0:
        if in_channels != out_channels or stride != 1:
            cause = f"A stage without blocks cannot map {in_channels} to {out_channels} channels at stride {stride}."
            raise ConfigError(cause, "Give it one block, or the same channels and stride 1.")
        return nn.Sequential()
    first = ResidualBlock3d(in_channels, out_channels, stride)
    return nn.Sequential(first, *(ResidualBlock3d(out_channels, out_channels) for _ in range(depth - 1)))


def _cumulative(first: int, strides: Sequence[int]) -> tuple[int, ...]:
    total, out = first, []
    for stride in strides:
        total *= stride
        out.append(total)
    return tuple(out)
