"""The grid that shapes are drawn on: HU, an organ map and a finding map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct_vlm.phantoms.shapes import Array, Depth, Point, Shape

Box = tuple[slice, slice, slice]
_CHUNK_VOXELS = 2**18  # 1 MiB of float32 stays in the L2 cache


class Canvas:
    """A voxel grid with soft-edged drawing restricted to bounding boxes.

    Args:
        shape: Grid size (D, H, W).
        fov_mm: Extent of the grid in mm.

    Shape:
        - hu, organs, marks: ``(D, H, W)``.
    """

    def __init__(self, shape: tuple[int, int, int], fov_mm: Point) -> None:
        self.shape = shape
        self.fov_mm = fov_mm
        self.spacing: Point = (fov_mm[0] / shape[0], fov_mm[1] / shape[1], fov_mm[2] / shape[2])
        axes = [
            ((np.arange(n) + 0.5) * s - f / 2).astype(np.float32)
            for n, s, f in zip(shape, self.spacing, fov_mm, strict=True)
        ]
        self.z, self.y, self.x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
        # a single thick slice must not blur its own plane
        self.voxel = min(float(np.prod(self.spacing)) ** (1 / 3), 2 * max(self.spacing[1:]))
        self.hu = np.full(shape, -1000, np.float32)
        self.organs = np.zeros(shape, np.uint8)
        self.marks = np.zeros(shape, np.uint8)

    def box(self, low: Point, high: Point) -> Box | None:
        """Return the voxels that a shape within bounds given in mm may touch, or None if there are none.

        A voxel is touched if its center lies at most half a voxel outside.
        """
        edge = self.voxel / 2
        slices = []
        for lo, hi, n, s, f in zip(low, high, self.shape, self.spacing, self.fov_mm, strict=True):
            start = max(0, math.ceil((lo + f / 2 - edge) / s - 0.5))
            stop = min(n, math.floor((hi + f / 2 + edge) / s + 0.5))
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return (slices[0], slices[1], slices[2])

    def chunks(self, box: Box) -> Iterator[tuple[Box, Array, Array, Array]]:
        """Split a box into slabs that fit the cache, with their coordinates."""
        plane = (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
        step = max(1, _CHUNK_VOXELS // plane)
        for start in range(box[0].start, box[0].stop, step):
            sub = (slice(start, min(start + step, box[0].stop)), box[1], box[2])
            yield sub, self.z[sub[0]], self.y[:, sub[1]], self.x[:, :, sub[2]]

    def cover(self, depth: Array) -> Array:
        """Turn depth in mm into the covered share of each voxel, in place."""
        depth *= np.float32(1 / self.voxel)
        depth += np.float32(0.5)
        np.minimum(depth, 1, out=depth)
        return np.maximum(depth, 0, out=depth)

    def paint(
        self,
        shape: Shape,
        hu: float | Depth | Array,
        *,
        organ: int = 0,
        mark: int = 0,
        within: Array | None = None,
        opacity: float = 1.0,
    ) -> Box | None:
        """Blend a shape into the grid.

        Args:
            shape: What to draw.
            hu: Its value in HU, or a function of the coordinates.
            organ: Organ class of voxels that are mostly covered; 0 leaves the map as it is.
            mark: Finding class of voxels that are mostly covered.
            within: 256 float weights by organ class; weight 0 keeps the shape out.
            opacity: Weight of the new value.

        Returns:
            The voxels that were drawn on, or None outside the grid.
        """
        box = self.box(shape.low, shape.high)
        if box is None:
            return None
        faint = np.float32(opacity * min(1.0, shape.thickness / self.voxel))
        for sub, z, y, x in self.chunks(box):
            cover = self.cover(shape.depth(z, y, x))
            if within is not None:
                cover *= within.take(self.organs[sub])
            if organ or mark:
                hit = cover > 0.5
                if organ:
                    np.copyto(self.organs[sub], np.uint8(organ), where=hit)
                if mark:
                    np.copyto(self.marks[sub], np.uint8(mark), where=hit)
            if faint < 1:
                cover *= faint
            view = self.hu[sub]
            cover *= (hu(z, y, x) if callable(hu) else np.float32(hu)) - view
            view += cover
        return box


class DryCanvas(Canvas):
    """A canvas of one voxel that stays blank: findings still decide and return their facts."""

    def __init__(self, fov_mm: Point) -> None:
        super().__init__((1, 1, 1), fov_mm)

    def box(self, low: Point, high: Point) -> Box | None:  # noqa: ARG002
        """Touch no voxel."""
        return None

    def paint(self, *args: object, **kwargs: object) -> Box | None:  # noqa: ARG002
        """Draw nothing."""
        return None
