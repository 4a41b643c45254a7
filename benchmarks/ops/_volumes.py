"""Volumes at CT-RATE's size for the benchmarks of the data path: smooth tissue, air, and scanner noise."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = (300, 512, 512)
GRID = (240, 480, 480)
SPACING = (1.2, 0.703125, 0.703125)
"""Voxel size of the source in mm (D, H, W)."""
GRID_SPACING = (1.5, 0.75, 0.75)
NOISE_HU = 12.0
"""Standard deviation: about that of a chest CT in soft tissue."""


@cache
def source_volume(size: tuple[int, int, int] = SOURCE) -> NDArray[np.int16]:
    """Return an ellipsoid body with two lungs, texture and noise, in HU; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    axes = [torch.linspace(-1, 1, length) for length in size]
    z, y, x = (axis.view([-1 if position == at else 1 for at in range(3)]) for position, axis in enumerate(axes))
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    lungs = ((x.abs() - 0.4) ** 2 / 0.08 + y**2 / 0.2 + z**2 / 0.8) < 1
    texture = F.interpolate(
        torch.randn(1, 1, *(max(2, length // 16) for length in size), generator=generator), size=size, mode="trilinear"
    )[0, 0]
    volume = torch.where(body, 40.0 + 20 * texture, -1000.0)
    volume = torch.where(lungs, -850.0 + 40 * texture, volume)
    for image in volume.unbind():  # the noise of a whole volume would need as much memory again
        image.add_(NOISE_HU * torch.randn(size[1:], generator=generator) * (image > -999))
    return volume.round_().clamp_(-1024, 3071).to(torch.int16).numpy()


@cache
def source_file(size: tuple[int, int, int] = SOURCE) -> Path:
    """Write the volume as CT-RATE's v2 stores it: ``.nii.gz``, int16 HU, x to the left, y to the back."""
    folder = Path(_folder().name) / "train_fixed"
    folder.mkdir(exist_ok=True)
    path = folder / f"train_1_a_1_{'x'.join(map(str, size))}.nii.gz"
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    image = nib.Nifti1Image(np.ascontiguousarray(source_volume(size)[::-1]).T, affine)
    image.header.set_xyzt_units("mm")
    nib.openers.Opener.default_compresslevel = 6
    nib.save(image, path)
    return path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that goes with the process."""
    return tempfile.TemporaryDirectory(prefix="ct_vlm_benchmark_")


def scratch(name: str) -> Path:
    """Return an empty folder that goes with the process."""
    path = Path(_folder().name) / name
    path.mkdir(exist_ok=True)
    return path


def trilinear(volume: NDArray[np.int16], size: tuple[int, int, int]) -> NDArray[np.float64]:
    """Interpolate in float64, one axis after the other, voxels being boxes with values at their centres."""
    result: NDArray[np.float64] = volume.astype(np.float64)
    for axis, (length, target) in enumerate(zip(volume.shape, size, strict=True)):
        position = np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)
        lower = np.floor(position).astype(np.int64)
        upper = np.minimum(lower + 1, length - 1)
        share = (position - lower).reshape([-1 if at == axis else 1 for at in range(3)])
        result = result.take(lower, axis) * (1 - share) + result.take(upper, axis) * share
    return result
