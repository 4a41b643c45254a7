"""Findings of the heart: enlargement, pericardial effusion, coronary calcification."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.organs import BLOOD, ORGAN, heart_shape, weights

if TYPE_CHECKING:
    from ct_vlm.phantoms.findings.scene import Scene
    from ct_vlm.phantoms.schema import Finding
    from ct_vlm.phantoms.shapes import Point

# paths on the unit sphere of the heart: (across = foot, y = back, along = patient's left)
_ARTERIES: dict[str, tuple[Point, Point]] = {
    "left anterior descending artery": ((-0.75, -0.55, 0.2), (0.45, -0.75, 0.5)),
    "right coronary artery": ((-0.55, -0.6, -0.6), (0.45, -0.3, -0.85)),
    "circumflex artery": ((-0.6, 0.1, 0.75), (0.25, 0.5, 0.85)),
}


def cardiomegaly(scene: Scene) -> Finding:
    """Mark the part of the heart that lies outside its normal size; the organ stage drew it larger."""
    grown = heart_shape(scene.anatomy, scene.anatomy.heart_factor)
    normal = heart_shape(scene.anatomy)
    scene.draw(grown.without(normal), BLOOD, within=weights(ORGAN["heart"]))
    # bounds of everything that the enlargement moved, its surrounding fat included
    for shape in (heart_shape(scene.anatomy, scene.anatomy.heart_factor, 4), heart_shape(scene.anatomy, extra=4)):
        box = scene.canvas.box(shape.low, shape.high)
        if box is not None:
            scene.cover(box)
    return scene.finding()


def pericardial_effusion(scene: Scene) -> Finding:
    """Draw a shell of fluid around the heart and its fat."""
    thickness = round(2 * scene.radius(5.5, 9, 1.2))
    outer = heart_shape(scene.anatomy, scene.heart_factor, 3 + thickness)
    inner = heart_shape(scene.anatomy, scene.heart_factor, 3)
    free = weights(0, 1, 2, 3, 4, 5, ORGAN["mediastinum"], ORGAN["liver"])
    scene.draw(outer.without(inner), 4, within=free)
    return scene.finding(size_mm=thickness)


def coronary_calcification(scene: Scene) -> Finding:
    """Draw beads of calcium along one coronary artery, or along all of them."""
    rng, names = scene.rng, list(_ARTERIES)
    several = rng.random() < 0.35
    name = names[int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    for artery in names if several else [name]:
        start, end = (np.array(point) for point in _ARTERIES[artery])
        for step in np.linspace(0.05, 0.95, 3 if several else 5):
            point = start + (end - start) * step + rng.normal(0, 0.05, 3)
            radius = scene.radius(3, 4.5, 1.05)
            scene.draw(scene.ball(_on_heart(scene, point / np.linalg.norm(point)), radius), rng.uniform(950, 1300))
    return scene.finding(location="coronary arteries" if several else name)


def _on_heart(scene: Scene, unit: np.ndarray) -> Point:
    """Map a direction to the surface of the heart as drawn."""
    shape = heart_shape(scene.anatomy, scene.heart_factor)
    center = [(low + high) / 2 for low, high in zip(shape.low, shape.high, strict=True)]
    across, back, along = (
        float(u) * r * scene.heart_factor * 0.97 for u, r in zip(unit, scene.anatomy.heart_radii, strict=True)
    )
    cos, sin = np.cos(scene.anatomy.heart_angle), np.sin(scene.anatomy.heart_angle)
    dz, dx = along * sin + across * cos, along * cos - across * sin
    return (center[0] + float(dz), center[1] + back, center[2] + float(dx))
