"""Volume to video cubes: the patches of a video model, from gray slices without an RGB copy or an MP4.

A gray volume in memory replaces the video file (whose codec changes HU values), and folded weights
replace the two equal channels: a third of the memory and of the arithmetic, the same embedding.

There is no Triton kernel here: on a GPU the cut is one copy of the uint8 volume, small beside the
matrix product that reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.dispatch import Backend, dispatch
from ct_vlm.ops.video_cubes.embedding import fold_patch_embedding, gray_patch_embedding
from ct_vlm.ops.video_cubes.naive import volume_to_cubes_naive
from ct_vlm.ops.video_cubes.torch_path import volume_to_cubes_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fold_patch_embedding", "gray_patch_embedding", "volume_to_cubes"]


def volume_to_cubes(
    volume: Tensor, *, temporal: int = 2, patch: int = 14, merge: int = 1, backend: str = "auto"
) -> Tensor:
    """Cut a volume into the cubes that a video model embeds.

    Args:
        volume: Gray slices as frames, e.g. a HU window as uint8; any number type.
        temporal: Slices of a cube.
        patch: Rows and columns of a cube.
        merge: Cubes are grouped by ``merge x merge`` neighbours in a slice, as models that merge
            tokens expect (2 for Qwen2.5-VL); 1 keeps them row by row.
        backend: ``auto``, ``torch`` (CPU, no gradient: rows of a patch are copied whole) or
            ``naive`` (one permutation).

    Shape:
        - volume: ``(..., D, H, W)``.
        - output: ``(..., n, temporal * patch * patch)`` with n = D / temporal * H / patch * W / patch,
          slices first, in the type of the volume.

    Raises:
        ConfigError: If a size is not positive, or the backend cannot run the inputs.
        ShapeError: If the volume is not a whole number of (groups of) cubes.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.video_cubes import volume_to_cubes
        >>> volume = torch.arange(16, dtype=torch.uint8).view(2, 2, 4)
        >>> volume_to_cubes(volume, temporal=2, patch=2).tolist()
        [[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]]
    """
    if min(temporal, patch, merge) < 1:
        cause = f"Expected positive sizes, but got temporal={temporal}, patch={patch}, merge={merge}."
        raise ConfigError(cause, "Take them from the video model's config.")
    steps = (temporal, patch * merge, patch * merge)
    if volume.ndim < 3 or any(size % step for size, step in zip(volume.shape[-3:], steps, strict=True)):
        cause = f"Volume {tuple(volume.shape)} is not a whole number of {steps} blocks."
        raise ShapeError(cause, "Crop, pad or resample its last three axes (D, H, W) to multiples of them.")
    flat = volume.reshape(-1, *volume.shape[-3:])
    cubes: Tensor = dispatch("video_cubes", BACKENDS, backend, flat, temporal, patch, merge)
    return cubes.view(*volume.shape[:-3], *cubes.shape[1:])


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return the inputs of a small typical call, for ``ct-vlm env``."""
    volume = torch.zeros(1, 2, 28, 28, dtype=torch.uint8, device=device)
    return {"volume": volume, "temporal": 2, "patch": 14, "merge": 1}


def _why_not_torch(volume: Tensor, temporal: int, patch: int, merge: int) -> str | None:  # noqa: ARG001
    if volume.device.type != "cpu":
        return f"it copies host memory, and the volume is on `{volume.device}`"
    if volume.requires_grad:
        return "it gives no gradient, and the volume requires one"
    if volume.numel() == 0 or (volume.stride(-1) != 1 and volume.shape[-1] > 1):
        return "the pixels of a row are not adjacent in memory"
    return None


def _never(volume: Tensor, temporal: int, patch: int, merge: int) -> str | None:  # noqa: ARG001
    return None


BACKENDS = (
    Backend("torch", volume_to_cubes_torch, _why_not_torch),
    Backend("naive", volume_to_cubes_naive, _never),
)
