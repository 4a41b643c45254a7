"""Findings of the mediastinum: aortic calcification, lymph nodes, hiatal hernia."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.organs import ORGAN, weights
from ct_vlm.phantoms.shapes import ellipsoid

if TYPE_CHECKING:
    from ct_vlm.phantoms.findings.scene import Scene
    from ct_vlm.phantoms.schema import Finding, Side
    from ct_vlm.phantoms.shapes import Point

_STATIONS: dict[str, tuple[Point, Side | None]] = {
    "right paratracheal": ((-80, 0, -24), "right"),
    "left paratracheal": ((-88, 0, 24), "left"),
    "prevascular": ((-76, -38, 4), None),
    "subcarinal": ((-16, 12, 0), None),
    "right hilar": ((-14, 10, -46), "right"),
    "left hilar": ((-14, 10, 46), "left"),
}


def arterial_calcification(scene: Scene) -> Finding:
    """Draw plaques of calcium in the wall of the thoracic aorta."""
    rng = scene.rng
    name = ("aortic arch", "descending aorta", "thoracic aorta")[int(rng.choice(3, p=[0.4, 0.3, 0.3]))]
    for index in range(int(rng.integers(4, 6))):
        arch = name == "aortic arch" or (name == "thoracic aorta" and index % 2 == 0)
        radius = scene.radius(3.5, 5, 1.15)
        point = _arch_point(scene) if arch else _descending_point(scene)
        scene.draw(scene.ball(point, radius), rng.uniform(850, 1200))
    return scene.finding(location=name)


def _arch_point(scene: Scene) -> Point:
    anatomy, t, angle = scene.anatomy, scene.rng.uniform(0.1, 0.95), scene.rng.uniform(-1.4, 1.4)
    y = -20 + t * (anatomy.spine_y - 4)
    return anatomy.at(-59 - anatomy.aorta * np.cos(angle), y, -4 + 28 * t + anatomy.aorta * np.sin(angle))


def _descending_point(scene: Scene) -> Point:
    anatomy, angle = scene.anatomy, scene.rng.uniform(-np.pi, np.pi)
    z, r = scene.rng.uniform(-35, 90), anatomy.aorta * 0.9
    return anatomy.at(z, anatomy.spine_y - 23 + r * np.sin(angle), 25 - 0.06 * max(z, 0) + r * np.cos(angle))


def lymphadenopathy(scene: Scene) -> Finding:
    """Draw a cluster of enlarged nodes at one station."""
    rng = scene.rng
    station = list(_STATIONS)[int(rng.integers(len(_STATIONS)))]
    center, side = _STATIONS[station]
    diameter = round(2 * scene.radius(8, 12, 1.8))
    free = weights(0, 1, 2, 3, 4, 5, ORGAN["mediastinum"], ORGAN["esophagus"], ORGAN["heart"])
    offsets: tuple[Point, ...] = ((0, 0, 0), (20, 4, 4), (-20, 2, -4), (2, -18, 6), (-4, 18, -6))
    for index, (dz, dy, dx) in enumerate(offsets):
        jitter = rng.normal(0, 1.5, 3)
        point = scene.anatomy.at(center[0] + dz + jitter[0], center[1] + dy + jitter[1], center[2] + dx + jitter[2])
        scene.draw(scene.ball(point, diameter / 2 * (1 if index == 0 else rng.uniform(0.85, 1))), 140, within=free)
    return scene.finding(side, location=station, size_mm=diameter)


def hiatal_hernia(scene: Scene) -> Finding:
    """Draw stomach with air above the diaphragm, behind the heart."""
    anatomy, diameter = scene.anatomy, round(2 * scene.radius(24, 31, 2.5))
    r = diameter / 2
    z, y, x = anatomy.at(anatomy.domes[0] + 6 + scene.rng.uniform(-6, 6), anatomy.spine_y - 36, 2)
    others = set(range(len(ORGAN) + 1)) - {ORGAN["aorta"], ORGAN["bone"]}
    keep = weights(*others)
    scene.draw(ellipsoid((z, y, x), (r, 0.8 * r, r)), 38, within=keep)
    scene.draw(ellipsoid((z - 0.1 * r, y - 0.1 * r, x), (0.6 * r, 0.5 * r, 0.62 * r)), -880, within=keep)
    return scene.finding(size_mm=diameter)
