"""Medical material: pacemaker, port catheter, sternotomy wires."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.shapes import box, capsule

if TYPE_CHECKING:
    from ct_vlm.phantoms.findings.scene import Scene
    from ct_vlm.phantoms.schema import Finding
    from ct_vlm.phantoms.shapes import Point

_METAL, _LEAD = 2600.0, 2200.0


def medical_material(scene: Scene) -> Finding:
    """Draw one device."""
    kind = ("pacemaker", "port catheter", "sternotomy wires")[int(scene.rng.integers(3))]
    if kind == "sternotomy wires":
        return _wires(scene)
    return _implant(scene, kind)


def _wires(scene: Scene) -> Finding:
    """Draw metal loops along the sternum."""
    front = -scene.anatomy.cage[0] - 4
    for z in np.linspace(-70, 34, 5):
        scene.draw(scene.ball(scene.anatomy.at(float(z), front + 2, 0), scene.fair(4, 1.1)), _METAL)
    return scene.finding(location="sternum", kind="sternotomy wires")


def _implant(scene: Scene, kind: str) -> Finding:
    """Draw a housing on the chest wall and a lead through the superior vena cava."""
    anatomy = scene.anatomy
    side = scene.pick_side(bilateral=0)
    sign = 1 if side == "left" else -1
    depth_half, width_half = anatomy.body
    x = sign * 0.48 * width_half
    front = -depth_half * float(np.sqrt(1 - (x / width_half) ** 2))
    center = anatomy.at(-76 + scene.rng.uniform(-8, 8), front + anatomy.fat * 0.5 + 8, x)
    flat = scene.fair(6, 0.85)
    half: Point = (21, flat, 19) if kind == "pacemaker" else (scene.fair(12), flat, scene.fair(12))
    scene.draw(box(center, half), _METAL)
    radius = scene.fair(2.0, 0.6)
    vein, tip = anatomy.at(-90, -14, -22), anatomy.at(-16, -18, -26)
    stops = [center, vein, tip]
    if kind == "pacemaker":
        z, y, heart_x = anatomy.heart_center
        stops.append((z + 22, y - 4, heart_x + 8))
    for start, end in itertools.pairwise(stops):
        scene.draw(capsule(start, end, radius), _LEAD)
    return scene.finding(side, location="chest wall", kind=kind)
