"""Findings of the airways: thick bronchial walls and dilated bronchi."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.organs import LUNG, ORGAN, bronchi, weights
from ct_vlm.phantoms.shapes import capsule

if TYPE_CHECKING:
    from ct_vlm.phantoms.findings.scene import Scene
    from ct_vlm.phantoms.schema import Finding

_AIR = -985.0


def peribronchial_thickening(scene: Scene) -> Finding:
    """Draw thick walls around the central bronchi of both sides."""
    wall = scene.radius(4, 6, 1.1)
    around = weights(0, 1, 2, 3, 4, 5, ORGAN["airways"], ORGAN["mediastinum"])
    for side in (0, 1):
        for start, end, radius in bronchi(scene.anatomy, side):
            lumen = scene.fair(radius, 0.8)
            scene.draw(capsule(start, end, lumen + wall), 30, within=around)
            scene.draw(capsule(start, end, lumen), _AIR, within=around)
    return scene.finding("bilateral")


def bronchiectasis(scene: Scene) -> Finding:
    """Draw a cluster of dilated bronchi with walls in one lobe."""
    rng = scene.rng
    outer = scene.radius(6.5, 8, 1.9)
    lumen = outer - scene.fair(2.2, 0.75)
    center = np.array(scene.anatomy.place(rng, scene.lobe, 1.8 * outer))
    sign = -1 if scene.lobe.startswith("right") else 1
    axis = np.array([0.9, rng.uniform(-0.2, 0.3), sign * 0.3])
    axis *= rng.uniform(13, 17) / np.linalg.norm(axis)
    places = [np.array([0, dy, dx]) * outer for dy, dx in ((-1.05, -1.05), (-1.05, 1.05), (1.05, -1.05), (1.05, 1.05))]
    for radius, hu in ((outer, 20.0), (lumen, _AIR)):
        for place in places:
            start, end = (center + place - axis).tolist(), (center + place + axis).tolist()
            scene.draw(capsule(tuple(start), tuple(end), radius), hu, within=LUNG)
    return scene.finding(lobe=scene.lobe)
