"""What a finding needs to draw itself: the grid, the patient, its own random stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct_vlm.phantoms.organs import weights
from ct_vlm.phantoms.schema import FINDING_OFFSET, LOBES, Finding
from ct_vlm.phantoms.shapes import Shape, ellipsoid
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    import numpy as np

    from ct_vlm.phantoms.anatomy import Anatomy
    from ct_vlm.phantoms.canvas import Box, Canvas
    from ct_vlm.phantoms.schema import Bounds, Side
    from ct_vlm.phantoms.shapes import Array, Depth, Point

_LARGEST_FAIR_RADIUS = 30.0


@dataclass
class Scene:
    """One finding in the making.

    Args:
        canvas: Grid to draw on.
        anatomy: The patient.
        rng: Stream of this finding alone.
        label: Its label.
        lobe: Lobe assigned to it, distinct from that of other focal findings.
        resolution_mm: Voxel size at which it must stay visible.
        heart_factor: Size of the heart as drawn.
    """

    canvas: Canvas
    anatomy: Anatomy
    rng: np.random.Generator
    label: str
    lobe: str
    resolution_mm: float
    heart_factor: float = 1.0
    bbox: Bounds | None = field(default=None, init=False)

    @property
    def mark(self) -> int:
        """Class of this finding in the label map."""
        return FINDING_OFFSET + CT_RATE_LABELS.index(self.label)

    def fair(self, radius: float, voxels: float = 1.5) -> float:
        """Return a radius that spans at least ``2 * voxels`` voxels, within reason."""
        return max(radius, min(voxels * self.resolution_mm, _LARGEST_FAIR_RADIUS))

    def radius(self, low: float, high: float, voxels: float = 1.5) -> float:
        """Draw a radius between two bounds, both raised where the grid would lose it."""
        low = self.fair(low, voxels)
        return float(self.rng.uniform(low, max(high, 1.3 * low)))

    def ball(self, center: Point, radius: float) -> Shape:
        """Return a sphere, stretched along an axis whose voxels are larger than itself."""
        rz, ry, rx = (max(radius, 0.8 * s) for s in self.canvas.spacing)
        return ellipsoid(center, (rz, ry, rx))

    def draw(
        self, shape: Shape, hu: float | Depth, *, within: Array | None = None, mark: bool = True, opacity: float = 1.0
    ) -> None:
        """Draw a part of the finding and widen its bounding box."""
        drawn = self.canvas.paint(shape, hu, mark=self.mark if mark else 0, within=within, opacity=opacity)
        if drawn is not None:
            self.cover(drawn)

    def cover(self, box: Box) -> None:
        """Widen the bounding box."""
        new = (*(s.start for s in box), *(s.stop for s in box))
        old = self.bbox
        low = new[:3] if old is None else tuple(min(a, b) for a, b in zip(old[:3], new[:3], strict=True))
        high = new[3:] if old is None else tuple(max(a, b) for a, b in zip(old[3:], new[3:], strict=True))
        self.bbox = (*low, *high)

    def finding(
        self,
        side: Side | None = None,
        *,
        lobe: str | None = None,
        location: str | None = None,
        kind: str | None = None,
        size_mm: int | None = None,
    ) -> Finding:
        """Return the facts as drawn; a lobe implies its side."""
        if lobe is not None:
            side = lobe_side(lobe)
        return Finding(self.label, side, lobe, location, kind, size_mm, self.bbox)

    def pick_side(self, bilateral: float) -> Side:
        """Choose a side, both with the given probability."""
        if self.rng.random() < bilateral:
            return "bilateral"
        return "left" if self.rng.random() < 0.5 else "right"


def lobe_side(lobe: str) -> Side:
    """Return the side of a lobe."""
    return "right" if LOBES.index(lobe) < 3 else "left"


def sides(side: Side) -> tuple[int, ...]:
    """Return the lungs of a side: 0 right, 1 left."""
    return {"right": (0,), "left": (1,), "bilateral": (0, 1)}[side]


def in_lobe(lobe: str) -> Array:
    """Return the ``within`` weights of one lobe."""
    return weights(1 + LOBES.index(lobe))
