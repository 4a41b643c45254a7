"""From a volume's grid to a preset's grid: crop box, sizes and spacing, worked out once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import VolumeGeometryError
from ct_vlm.transforms.label_vote import resample_majority
from ct_vlm.transforms.nifti_header import MAX_VOXELS
from ct_vlm.transforms.resample import crop_or_pad, crop_window, fill_from_slices, framed, resample_nearest
from ct_vlm.transforms.slabs import AxisWindow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LABELS = {"nearest": resample_nearest, "majority": resample_majority}


@dataclass(frozen=True)
class GeometryPlan:
    """What to do with the voxels of one volume.

    Args:
        box: Part of the volume that is kept before resizing; ``None`` keeps all.
        resized: Size ``(D, H, W)`` after interpolation.
        size: Size after crop and pad.
        spacing: Voxel size in mm of the result.
    """

    box: tuple[slice, slice, slice] | None
    resized: tuple[int, int, int]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]

    def resample(self, array: NDArray[Any], *, interpolation: str, mode: str, value: float) -> NDArray[Any]:
        """Cut, resize, crop and pad an array that lies on the planned volume's grid.

        Args:
            array: Volume or label map.
            interpolation: ``linear``, ``area`` or ``antialias``; ``nearest`` or ``majority`` for labels.
            mode: ``center`` or ``end``.
            value: What fills new voxels.
        """
        if self.box is not None:
            array = array[self.box]
        if interpolation in _LABELS or array.shape == self.resized:
            resize = _LABELS.get(interpolation, resample_nearest)
            return crop_or_pad(resize(array, self.resized), self.size, value=value, mode=mode)
        result, inside = self.frame(mode, value)
        depth, height, width = self.windows(array.shape, mode)
        fill_from_slices(array, (depth, height, width), interpolation, inside)
        return result

    def frame(
        self, mode: str, value: float, out: NDArray[np.int16] | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Return the result with its padding written, and the view of it that the volume fills.

        Args:
            mode: ``center`` or ``end``.
            value: HU of the padding.
            out: Memory for the result; new memory if ``None``.
        """
        parts = [crop_window(have, want, mode)[1:] for have, want in zip(self.resized, self.size, strict=True)]
        result = framed(self.size, parts, np.int16, value, out)
        return result, result[tuple(slice(start, start + length) for start, length in parts)]

    def windows(self, shape: Sequence[int], mode: str) -> list[AxisWindow]:
        """Return for each axis what is kept of the resized volume.

        Args:
            shape: Size of the volume, after the box was cut.
            mode: ``center`` or ``end``.
        """
        result = []
        for source, resized, wanted in zip(shape, self.resized, self.size, strict=True):
            cut, _, length = crop_window(resized, wanted, mode)
            result.append(AxisWindow(int(source), resized, cut, length))
        return result

    def affine(self, affine: NDArray[np.float64], shape: Sequence[int], mode: str) -> NDArray[np.float64]:
        """Return the affine of the result.

        Args:
            affine: Of the volume.
            shape: Size of the volume.
            mode: ``center`` or ``end``.
        """
        lengths = shape if self.box is None else [part.stop - part.start for part in self.box]
        starts = (0, 0, 0) if self.box is None else [part.start for part in self.box]
        step = np.eye(4)
        for axis, (length, resized, wanted) in enumerate(zip(lengths, self.resized, self.size, strict=True)):
            cut, fill, _ = crop_window(resized, wanted, mode)
            scale = length / resized
            step[axis, axis] = scale
            step[axis, 3] = starts[axis] + (cut - fill + 0.5) * scale - 0.5
        return affine @ step


def plan_geometry(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    box: tuple[slice, slice, slice] | None,
    target_spacing: Sequence[float | None] | None,
    target_size: Sequence[int | None] | None,
) -> GeometryPlan:
    """Work out sizes and spacing.

    With a target spacing the length becomes ``int(n * spacing / target)`` as in CT-CLIP, at least
    one, and the target size crops and pads; without it the target size is what is resized to.

    Args:
        shape: Size of the volume.
        spacing: Its voxel size in mm.
        box: Part that is kept.
        target_spacing: Wanted voxel size; ``None`` entries keep the volume's.
        target_size: Wanted size; ``None`` entries keep the length.

    Raises:
        VolumeGeometryError: If the result would be larger than any CT.

    Example:
        >>> from ct_vlm.transforms.geometry import plan_geometry
        >>> plan = plan_geometry((100, 512, 512), (3.0, 0.75, 0.75), None, (1.5, 0.75, 0.75), (240, 480, 480))
        >>> plan.resized, plan.size, plan.spacing
        ((200, 512, 512), (240, 480, 480), (1.5, 0.75, 0.75))
    """
    lengths = shape if box is None else tuple(part.stop - part.start for part in box)
    resized, size, result = [], [], []
    for axis in range(3):
        wanted_spacing = None if target_spacing is None else target_spacing[axis]
        wanted = None if target_size is None else target_size[axis]
        length = lengths[axis]
        if wanted_spacing is not None:
            # a millionth guards against 199.99999 where the quotient is whole
            length = max(1, int(lengths[axis] * spacing[axis] / wanted_spacing + 1e-6))
        elif target_spacing is None and wanted is not None:
            length = wanted
        resized.append(length)
        size.append(length if wanted is None else wanted)
        result.append(spacing[axis] * lengths[axis] / length)
    if math.prod(size) > MAX_VOXELS:
        cause = f"A volume {shape} of {spacing} mm voxels would become {tuple(size)} voxels."
        raise VolumeGeometryError(cause, "Check its spacing, or give the preset a `size`.")
    return GeometryPlan(box, _triple(resized), _triple(size), _triple(result))


def foreground_box(array: NDArray[np.int16], threshold: int) -> tuple[slice, slice, slice] | None:
    """Return the smallest box that holds every voxel above a threshold; ``None`` if there is none."""
    mask = array > threshold
    parts = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if used.size == 0:
            return None
        parts.append(slice(int(used[0]), int(used[-1]) + 1))
    return parts[0], parts[1], parts[2]


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Return three values as a tuple that type checkers know the length of."""
    first, second, third = values
    return first, second, third
