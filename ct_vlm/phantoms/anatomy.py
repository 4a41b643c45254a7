"""The body of one patient: sizes, positions and the surfaces that organs and findings share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.schema import LOBES

if TYPE_CHECKING:
    from ct_vlm.phantoms.shapes import Array, Depth, Point

FISSURE_SLOPE = 0.9
_MEDIASTINUM_Y = (-1.0, -0.6, -0.15, 0.35, 1.0)
_MEDIASTINUM_WIDTH = (9.0, 14.0, 29.0, 27.0, 22.0)


@dataclass(frozen=True)
class Anatomy:
    """Sizes in mm of one patient, in canvas coordinates (see ``shapes``).

    Args:
        sex: ``"F"`` or ``"M"``.
        age: Age in years.
        center: Position (z, y, x) of the thorax in the field of view.
        tilt: Sideways shift of the body per mm toward the foot.
        body: Half depth and half width of the trunk.
        fat: Thickness of the subcutaneous fat.
        muscle: Thickness of the chest wall's muscle.
        cage: Half depth and half width of the inner rib cage.
        apex_height: Height of the rounded top of the rib cage.
        domes: Height (z) of the right and the left diaphragm dome.
        oblique: Height (z) of both oblique fissures at mid depth.
        horizontal: Height (z) of the right horizontal fissure.
        heart_radii: Radii of the heart (z, y, x) without cardiomegaly.
        heart_factor: Enlargement used where cardiomegaly is present.
        heart_angle: Tilt of the heart in the coronal plane in radians.
        aorta: Radius of the aorta.
        lung_hu: Mean value of healthy lung.
        liver: Size factor of the upper abdominal organs.
    """

    sex: str
    age: int
    center: Point
    tilt: float
    body: tuple[float, float]
    fat: float
    muscle: float
    cage: tuple[float, float]
    apex_height: float
    domes: tuple[float, float]
    oblique: float
    horizontal: float
    heart_radii: Point
    heart_factor: float
    heart_angle: float
    aorta: float
    lung_hu: float
    liver: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Anatomy:
        """Draw a patient."""
        u = rng.uniform
        sex = "F" if u() < 0.45 else "M"
        half_depth, half_width = u(96, 109), u(144, 156)
        fat, muscle = u(8, 20), u(9, 14)
        dome = u(46, 62)
        scale = u(0.94, 1.05)
        return cls(
            sex=sex,
            age=int(np.clip(rng.normal(56, 15), 20, 90)),
            center=(u(-5, 5), u(-3, 3), u(-4, 4)),
            tilt=u(-0.03, 0.03),
            body=(half_depth, half_width),
            fat=fat,
            muscle=muscle,
            cage=(half_depth - 0.75 * fat - muscle - 5, half_width - fat - muscle - 8),
            apex_height=u(78, 96),
            domes=(dome, dome + u(5, 13)),
            oblique=u(-14, 4),
            horizontal=u(-8, 6),
            heart_radii=(u(46, 50) * scale, u(36, 40) * scale, u(49, 53) * scale),
            heart_factor=u(1.28, 1.4),
            heart_angle=u(0.3, 0.6),
            aorta=u(12.5, 15.5),
            lung_hu=u(-850, -820),
            liver=u(0.92, 1.06),
        )

    def at(self, z: float, y: float, x: float) -> Point:
        """Map a point of the standard thorax into the field of view."""
        cz, cy, cx = self.center
        return (z + cz, y + cy, x + cx + self.tilt * z)

    def middle(self, z: Array) -> Array:
        """Return the x of the body's midline at heights z."""
        return np.float32(self.center[2]) + np.float32(self.tilt) * (z - np.float32(self.center[0]))

    @property
    def heart_center(self) -> Point:
        """Center of the heart; it rests on the diaphragm."""
        return self.at(self.domes[0] - 38, -0.26 * self.cage[0], 15)

    @property
    def spine_y(self) -> float:
        """Depth (y) of the vertebral bodies' centers in the standard thorax."""
        return self.cage[0] - 20

    def cage_depth(self, z: Array, y: Array, x: Array) -> Array:
        """Return the distance to the inner rib cage, positive inside."""
        b, a = self.cage
        half = np.float32(np.sqrt(a * b) / 2)
        above = np.maximum(0, np.float32(self.center[0] - 30) - z) * np.float32(1 / self.apex_height)
        plane = half * (1 - above * above) - (half / np.float32(a * a)) * (x - self.middle(z)) ** 2
        return plane - (half / np.float32(b * b)) * (y - np.float32(self.center[1])) ** 2

    def dome(self, y: Array, x: Array, side: int) -> Array:
        """Return the height (z) of the diaphragm; side 0 is right, 1 left."""
        b, a = self.cage
        cx = np.float32(self.center[2] + (0.5 if side else -0.5) * a)
        top = np.float32(self.center[0] + self.domes[side])
        dy = (y - np.float32(self.center[1] - 8)) / np.float32(b)
        return top + 42 * (((x - cx) / np.float32(0.56 * a)) ** 2 + dy * dy)

    def medial_depth(self, z: Array, y: Array, x: Array, side: int) -> Array:
        """Return the distance to the mediastinum, positive on the given side of it."""
        width = np.interp((y.ravel() - self.center[1]) / self.cage[0], _MEDIASTINUM_Y, _MEDIASTINUM_WIDTH)
        reach = x - self.middle(z)
        return (reach if side else -reach) - width.astype(np.float32).reshape(y.shape)

    def lung_depth(self, side: int) -> Depth:
        """Return the depth function of one lung, blind to heart and vessels."""

        def depth(z: Array, y: Array, x: Array) -> Array:
            inside = self.cage_depth(z, y, x)
            np.minimum(inside, self.dome(y, x, side) - z, out=inside)
            return np.minimum(inside, self.medial_depth(z, y, x, side), out=inside)

        return depth

    def fissures(self, z: Array, y: Array) -> tuple[Array, Array]:
        """Return signed distances below the oblique and the horizontal fissure."""
        line = np.float32(self.center[0] + self.oblique) - FISSURE_SLOPE * (y - np.float32(self.center[1]))
        oblique = (z - line) * np.float32(1 / np.hypot(1, FISSURE_SLOPE))
        return oblique, z - np.float32(self.center[0] + self.horizontal)

    def lobe_depth(self, lobe: str) -> Depth:
        """Return the depth function of one lobe, bounded by its fissures."""
        index = LOBES.index(lobe)
        side = 0 if index < 3 else 1
        lung = self.lung_depth(side)

        def depth(z: Array, y: Array, x: Array) -> Array:
            inside = lung(z, y, x)
            oblique, horizontal = self.fissures(z, y)
            if index in {2, 4}:
                return np.minimum(inside, oblique)
            inside = np.minimum(inside, -oblique)
            if index == 3:
                return inside
            return np.minimum(inside, horizontal if index == 1 else -horizontal)

        return depth

    def heart_gap(self, z: Array, y: Array, x: Array) -> Array:
        """Return the distance to the largest heart this patient may have, positive outside it.

        It does not depend on which labels are present, so lesions keep their place.
        """
        cz, cy, cx = self.heart_center
        rz, ry, rx = (r * self.heart_factor + 8 for r in self.heart_radii)
        q = np.sqrt(((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2)
        return (q - 1) * (rz * ry * rx) ** (1 / 3)

    def place(self, rng: np.random.Generator, lobe: str, margin: float) -> Point:
        """Return a random point of a lobe at least ``margin`` mm inside, or the deepest one found."""
        b, a = self.cage
        side = -1 if LOBES.index(lobe) < 3 else 1
        count = 400
        z = self.center[0] + rng.uniform(-105, 80, count)
        y = self.center[1] + rng.uniform(-0.9 * b, 0.5 * b, count)
        x = self.center[2] + side * rng.uniform(15, a, count)
        depth = np.minimum(self.lobe_depth(lobe)(z, y, x), self.heart_gap(z, y, x))
        good = np.flatnonzero(depth >= margin)
        best = int(good[0]) if good.size else int(np.argmax(depth))
        return (float(z[best]), float(y[best]), float(x[best]))
