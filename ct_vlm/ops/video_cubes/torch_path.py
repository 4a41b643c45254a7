"""Volume to cubes on the CPU: a row of a patch is copied as one element.

A permutation copies pixel by pixel. Rows of a patch are adjacent in the volume and in the cube, so
they are moved whole: numpy copies elements of any size, torch has none of 14 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from ct_vlm.ops.memory import empty_large

if TYPE_CHECKING:
    from torch import Tensor


def volume_to_cubes_torch(volume: Tensor, temporal: int, patch: int, merge: int) -> Tensor:
    """Cut; arguments and shapes as :func:`.volume_to_cubes`, with one leading axis."""
    batch, depth, height, width = volume.shape
    size = volume.element_size()
    row = np.dtype((np.void, patch * size))
    b, d, h, _ = (stride * size for stride in volume.stride())
    w = patch * size
    # bytes, because numpy has no bfloat16; the first row of a patch gives the element its place
    first = volume[0, 0, 0, :patch].view(torch.uint8).numpy().view(row)
    counts = (batch, depth // temporal, height // (patch * merge), width // (patch * merge))
    # b, d, h, w, rows and columns of a merged group, slices and rows of a cube
    shape = (*counts, merge, merge, temporal, patch)
    strides = (b, temporal * d, merge * patch * h, merge * w, patch * h, w, d, h)
    cubes = empty_large(batch, counts[1] * counts[2] * counts[3] * merge**2, temporal * patch**2, dtype=volume.dtype)
    out = cubes.view(torch.uint8).numpy().reshape(-1).view(row).reshape(shape)
    out[...] = as_strided(first, shape=shape, strides=strides, writeable=False)
    return cubes
