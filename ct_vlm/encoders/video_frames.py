"""Steps between a film and a vision tower: check, round to bytes, resize, normalise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TOLERANCE = 1e-3
"""How far floats may leave [0, 1]: half-precision windows round past 1."""


def check_frames(video: Tensor) -> None:
    """Raise a clear error if a tensor is no batch of films.

    Args:
        video: Candidate.

    Raises:
        ShapeError: If rank, channels, size, type or range are wrong.
    """
    if video.ndim != 5 or video.shape[1] not in {1, 3}:
        cause = f"Expected films as (B, 3 or 1, T, H, W), but got {tuple(video.shape)}."
        raise ShapeError(cause, "Add the batch or channel axis with `unsqueeze`; use one HU window, or three.")
    if 0 in video.shape:
        cause = f"The film {tuple(video.shape)} has no pixel."
        raise ShapeError(cause, "Pass at least one sample with one slice.")
    if video.dtype == torch.uint8:
        return
    if not video.is_floating_point():
        cause = f"Expected uint8 frames or floats in [0, 1], but got {video.dtype}."
        raise ShapeError(cause, "Turn HU into frames with `hu_to_frames`, or window them with `preset.window`.")
    low, high = (value.item() for value in video.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # a NaN fails, too
        cause = f"Expected floats in [0, 1], but got {low:g} to {high:g}."
        raise ShapeError(cause, "Use a preset with `norm='unit'`, e.g. `absteering`: the model normalises by itself.")


def to_bytes(video: Tensor) -> Tensor:
    """Round floats in [0, 1] to 255 steps, as a film holds them; bytes pass.

    Args:
        video: Checked films.
    """
    if video.dtype == torch.uint8:
        return video
    return (video.detach().float() * 255).round_().clamp_(0, 255).to(torch.uint8)


def resize_frames(video: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize each frame, bicubic with an anti-aliasing filter, as torchvision does for the processors.

    Args:
        video: Bytes, or floats in [0, 1].
        size: Rows and columns.

    Shape:
        - video: ``(B, C, T, H, W)``.
        - output: ``(B, C, T, *size)``, in the type of the film.
    """
    if tuple(video.shape[-2:]) == tuple(size):
        return video
    # one picture a channel: the result is the same as for three at once, and so is the order of the axes
    flat = video.flatten(0, 2).unsqueeze(1)
    is_bytes = video.dtype == torch.uint8
    native = is_bytes and video.device.type == "cpu"
    pictures = flat if native else flat.float()
    resized = F.interpolate(pictures, size, mode="bicubic", align_corners=False, antialias=True)
    if not native:
        # the filter overshoots
        resized = resized.clamp(0, 255).round() if is_bytes else resized.clamp(0, 1)
    return resized.to(video.dtype).squeeze(1).unflatten(0, video.shape[:3])


def normalise(frames: Tensor, mean: Sequence[float], std: Sequence[float], *, axis: int) -> Tensor:
    """Subtract each colour's mean and divide by its deviation; one channel becomes three.

    Args:
        frames: Bytes, or floats in [0, 1].
        mean: Mean of each colour, of values in [0, 1].
        std: Deviation of each colour.
        axis: The axis of channels.

    Shape:
        - frames: ``axis`` has 1 or 3 entries.
        - output: ``axis`` has 3 entries; float32.
    """
    scale = 255 if frames.dtype == torch.uint8 else 1
    shape = [1] * frames.ndim
    shape[axis] = len(mean)
    # scaled as the processors do it: bytes are not divided by 255 first
    means, stds = (torch.tensor(values, device=frames.device).mul(scale).view(shape) for values in (mean, std))
    return frames.float().sub(means).div_(stds)
