"""Focal findings of the lung: nodule, ground glass, consolidation, atelectasis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.findings.scene import in_lobe, sides
from ct_vlm.phantoms.organs import LUNG
from ct_vlm.phantoms.shapes import Shape, capsule, ellipsoid

if TYPE_CHECKING:
    from ct_vlm.phantoms.findings.scene import Scene
    from ct_vlm.phantoms.schema import Finding
    from ct_vlm.phantoms.shapes import Array, Point


def nodule(scene: Scene) -> Finding:
    """Draw one solid round nodule."""
    diameter = round(2 * scene.radius(5, 11, 1.8))
    center = scene.anatomy.place(scene.rng, scene.lobe, diameter / 2 + 3)
    scene.draw(scene.ball(center, diameter / 2), 120, within=LUNG)
    return scene.finding(lobe=scene.lobe, size_mm=diameter)


def opacity(scene: Scene) -> Finding:
    """Draw a ground-glass patch in one lobe, or one in the same lobe of both lungs."""
    rng = scene.rng
    both = rng.random() < 0.35
    diameter = round(2 * scene.radius(20, 30, 3))
    level = "lower" if "lower" in scene.lobe else "upper"
    lobes = [f"right {level} lobe", f"left {level} lobe"] if both else [scene.lobe]
    for lobe in lobes:
        center = scene.anatomy.place(rng, lobe, 0.6 * diameter / 2)
        rz, ry, rx = (diameter / 2 * rng.uniform(0.85, 1, 3)).tolist()
        scene.draw(ellipsoid(center, (max(rz, 0.8 * scene.canvas.spacing[0]), ry, rx)), -520, within=in_lobe(lobe))
    if both:
        return scene.finding("bilateral", location=f"{level} lobes")
    return scene.finding(lobe=scene.lobe, size_mm=diameter)


def consolidation(scene: Scene) -> Finding:
    """Draw a dense block in one lobe with air bronchograms."""
    rng = scene.rng
    radius = scene.radius(27, 36, 3)
    center = scene.anatomy.place(rng, scene.lobe, 0.5 * radius)
    within = in_lobe(scene.lobe)
    rz, ry, rx = (radius * rng.uniform(0.85, 1.1, 3)).tolist()
    scene.draw(ellipsoid(center, (max(rz, 0.8 * scene.canvas.spacing[0]), ry, rx)), 34, within=within)
    for dz in (-0.3, 0.3):
        start = (center[0] + dz * radius, center[1] - 0.1 * radius, center[2] - 0.6 * radius)
        end = (center[0] + 1.6 * dz * radius, center[1] + 0.1 * radius, center[2] + 0.6 * radius)
        scene.draw(capsule(start, end, 2.2), -900, within=within)
    return scene.finding(lobe=scene.lobe)


def atelectasis(scene: Scene) -> Finding:
    """Draw plates of collapsed lung above the diaphragm."""
    side = scene.pick_side(bilateral=0.35)
    lobes = [("right lower lobe", "left lower lobe")[lung] for lung in sides(side)]
    for lobe in lobes:
        _plate(scene, lobe)
    if side == "bilateral":
        return scene.finding("bilateral", location="lower lobes")
    return scene.finding(lobe=lobes[0])


def _plate(scene: Scene, lobe: str) -> None:
    """Draw one tilted plate near the base of a lobe."""
    rng, anatomy = scene.rng, scene.anatomy
    b, a = anatomy.cage
    sign = -1 if lobe.startswith("right") else 1
    _, y, x = anatomy.at(0, rng.uniform(0.05, 0.35) * b, sign * rng.uniform(0.52, 0.62) * a)
    dome = float(anatomy.dome(np.array([y]), np.array([x]), int(sign > 0))[0])
    center: Point = (dome - scene.fair(9, 2), y, x)
    half = scene.fair(3.5, 0.75)
    tilt = float(rng.uniform(-0.25, 0.25))
    extent = ellipsoid(center, (26, rng.uniform(30, 40), rng.uniform(30, 40)))

    def sheet(z: Array, _y: Array, x: Array) -> Array:
        return half - np.abs((z - center[0]) + tilt * (x - center[2]))

    plate = Shape(extent.low, extent.high, extent.cut(sheet).depth, 2 * half)
    scene.draw(plate, -5, within=in_lobe(lobe))
