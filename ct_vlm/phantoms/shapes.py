"""Analytic shapes: each gives its bounds and, for every voxel, how deep it lies inside in mm.

Coordinates are millimetres in canonical axes with the origin in the middle of the field of view:
z grows toward the foot, y toward the back, x toward the patient's left. Depth functions take the
broadcastable arrays ``z (D,1,1)``, ``y (1,H,1)``, ``x (1,1,W)`` and return a fresh ``(D,H,W)``.
Near a surface the depth is the distance to it; far from it only the sign is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = npt.NDArray[Any]
Depth = Callable[[Array, Array, Array], Array]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """A region of space.

    Args:
        low: Lower corner (z, y, x) in mm of a box that holds the shape.
        high: Upper corner.
        depth: Depth in mm, positive inside.
        thickness: Smallest width in mm; thinner than a voxel means it is drawn fainter.
    """

    low: Point
    high: Point
    depth: Depth
    thickness: float = 1e3

    def cut(self, *others: Depth) -> Shape:
        """Keep only what lies inside every other depth function as well."""

        def depth(z: Array, y: Array, x: Array) -> Array:
            inside = self.depth(z, y, x)
            for other in others:
                np.minimum(inside, other(z, y, x), out=inside)
            return inside

        return Shape(self.low, self.high, depth, self.thickness)

    def without(self, other: Shape) -> Shape:
        """Remove another shape."""
        return self.cut(lambda z, y, x: -other.depth(z, y, x))


def ellipsoid(center: Point, radii: Point, angle: float = 0.0) -> Shape:
    """Return an ellipsoid, optionally rotated in the coronal (z, x) plane by ``angle`` radians."""
    (cz, cy, cx), (rz, ry, rx) = center, radii
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    half = (rz * ry * rx) ** (1 / 3) / 2
    reach_z = float(np.hypot(rz * cos, rx * sin))
    reach_x = float(np.hypot(rx * cos, rz * sin))

    def depth(z: Array, y: Array, x: Array) -> Array:
        dz, dx = z - cz, x - cx
        along = dx * cos + dz * sin if angle else dx
        across = dz * cos - dx * sin if angle else dz
        plane = half - (half / rx**2) * along * along - (half / rz**2) * across * across
        return plane - (half / ry**2) * (y - cy) ** 2

    low = (cz - reach_z, cy - ry, cx - reach_x)
    high = (cz + reach_z, cy + ry, cx + reach_x)
    return Shape(low, high, depth, 2 * min(radii))


def box(center: Point, half: Point) -> Shape:
    """Return a box with its edges along the axes."""
    (cz, cy, cx), (hz, hy, hx) = center, half

    def depth(z: Array, y: Array, x: Array) -> Array:
        plane = np.minimum(hz - np.abs(z - cz), hx - np.abs(x - cx))
        return np.minimum(plane, hy - np.abs(y - cy))

    low, high = (cz - hz, cy - hy, cx - hx), (cz + hz, cy + hy, cx + hx)
    return Shape(low, high, depth, 2 * min(half))


def upright_tube(points: Sequence[Point], radii: Sequence[float] | float, *, flat: float = 1.0) -> Shape:
    """Return a tube along the body axis; its axial section is an ellipse around the path.

    Args:
        points: Path (z, y, x) with growing z.
        radii: Radius in mm at each point, or one for all.
        flat: Ratio of the left-right to the front-back radius.

    Returns:
        The shape; its ends are flat.
    """
    pz, py, px = (np.array(values, np.float32) for values in zip(*points, strict=True))
    pr = np.broadcast_to(np.asarray(radii, np.float32), pz.shape)

    def depth(z: Array, y: Array, x: Array) -> Array:
        flat_z = z.ravel()
        cy, cx, r = (np.interp(flat_z, pz, p).astype(np.float32).reshape(z.shape) for p in (py, px, pr))
        ends = np.minimum(z - pz[0], pz[-1] - z)
        inside = (r / 2 - (y - cy) ** 2 / (2 * r)) - (x - cx) ** 2 / (2 * r * flat**2)
        return np.minimum(inside, ends)

    widest = float(pr.max())
    low = (float(pz[0]), float(py.min()) - widest, float(px.min()) - widest * flat)
    high = (float(pz[-1]), float(py.max()) + widest, float(px.max()) + widest * flat)
    return Shape(low, high, depth, 2 * float(pr.min()) * min(1.0, flat))


def capsule(start: Point, end: Point, radius: float) -> Shape:
    """Return a rod with round ends between two points."""
    a, b = np.array(start), np.array(end)
    ab = b - a
    length2 = float(ab @ ab) or 1.0
    scale = np.float32(1 / (2 * radius))

    def depth(z: Array, y: Array, x: Array) -> Array:
        dz, dy, dx = z - np.float32(a[0]), y - np.float32(a[1]), x - np.float32(a[2])
        along = (dz * np.float32(ab[0]) + dy * np.float32(ab[1])) + dx * np.float32(ab[2])
        t = along * np.float32(1 / length2)
        np.maximum(np.minimum(t, 1, out=t), 0, out=t)
        distance2 = (dz * dz + dy * dy) + dx * dx
        t *= 2 * along - t * np.float32(length2)
        distance2 -= t
        return np.float32(radius / 2) - distance2 * scale

    low, high = np.minimum(a, b) - radius, np.maximum(a, b) + radius
    return Shape(_point(low), _point(high), depth, 2 * radius)


def _point(values: Array) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))
