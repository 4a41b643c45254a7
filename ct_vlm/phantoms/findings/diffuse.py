"""Findings that spread over the lung: emphysema, fibrosis, mosaic, septal lines, effusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.findings.scene import in_lobe, sides
from ct_vlm.phantoms.organs import LUNG
from ct_vlm.phantoms.shapes import Shape

if TYPE_CHECKING:
    from ct_vlm.phantoms.findings.scene import Scene
    from ct_vlm.phantoms.schema import Finding
    from ct_vlm.phantoms.shapes import Array, Depth


def _lung_shape(scene: Scene, side: int, depth: Depth, top: float, bottom: float) -> Shape:
    """Return a depth function bounded by one lung between two heights of the standard thorax."""
    anatomy = scene.anatomy
    b, a = anatomy.cage
    cz, cy, cx = anatomy.center
    lean = abs(anatomy.tilt) * 160
    left, right = (cx, cx + a + lean) if side else (cx - a - lean, cx)
    return Shape((cz + top, cy - b, left), (cz + bottom, cy + b, right), depth)


def emphysema(scene: Scene) -> Finding:
    """Draw clusters of air-filled spaces in the upper lobes."""
    side = scene.pick_side(bilateral=0.6)
    for lung in sides(side):
        lobe = ("right upper lobe", "left upper lobe")[lung]
        for _ in range(12):
            radius = scene.radius(11, 17, 2.2)
            scene.draw(
                scene.ball(scene.anatomy.place(scene.rng, lobe, 0.4 * radius), radius), -995, within=in_lobe(lobe)
            )
    if side == "bilateral":
        return scene.finding("bilateral", location="upper lobes")
    return scene.finding(lobe=f"{side} upper lobe")


def fibrotic_sequela(scene: Scene) -> Finding:
    """Draw dense streaks in the apex."""
    side, anatomy = scene.pick_side(bilateral=0.45), scene.anatomy
    period = 2 * scene.fair(6, 1.5)
    phase = float(scene.rng.uniform(0, period))
    slant = float(scene.rng.uniform(0.4, 0.7))
    bottom = -78.0 + float(scene.rng.uniform(-4, 6))
    limit = np.float32(anatomy.center[0] + bottom)

    def streaks(z: Array, y: Array, x: Array) -> Array:
        where = (z + slant * x + 0.3 * y + phase) / np.float32(period) % 1
        lines = (0.25 - np.abs(where - 0.5)) * np.float32(period)
        return np.minimum(lines, limit - z)

    for lung in sides(side):
        shape = _lung_shape(scene, lung, streaks, -35 - anatomy.apex_height, bottom)
        scene.draw(shape, -60, within=LUNG)
    return scene.finding(side, location="apex")


def mosaic(scene: Scene) -> Finding:
    """Draw a patchwork of denser and lighter areas over both lungs."""
    rng, anatomy = scene.rng, scene.anatomy
    waves = [(2 * np.pi / rng.uniform(48, 60), rng.uniform(0, 2 * np.pi)) for _ in range(3)]

    def patches(z: Array, y: Array, x: Array) -> Array:
        pz, py, px = (np.sin(np.float32(k) * c + np.float32(p)) for (k, p), c in zip(waves, (z, y, x), strict=True))
        return ((pz + py) + px) * np.float32(9)

    for lung in (0, 1):
        top, bottom = -35 - anatomy.apex_height, anatomy.domes[lung] + 90
        light = _lung_shape(scene, lung, lambda z, y, x: -patches(z, y, x), top, bottom)
        scene.draw(light, -925, within=LUNG, mark=False)
        scene.draw(_lung_shape(scene, lung, patches, top, bottom), -690, within=LUNG)
    return scene.finding("bilateral")


def septal_thickening(scene: Scene) -> Finding:
    """Draw a mesh of lines in the outer part of both lower lungs."""
    anatomy = scene.anatomy
    period = 2 * scene.fair(9, 2.4)
    half = np.float32(scene.fair(1.5, 0.4))
    rim = np.float32(30)
    start = np.float32(anatomy.center[0] - 5)
    shift = scene.rng.uniform(0, period, 2)

    def line(c: Array, offset: float) -> Array:
        distance: Array = np.abs(((c + np.float32(offset)) / np.float32(period)) % 1 - 0.5) * np.float32(period)
        return half - distance

    def mesh(z: Array, y: Array, x: Array) -> Array:
        lines = np.maximum(line(y, shift[0]), line(x, shift[1])) + np.zeros_like(z)
        np.minimum(lines, rim - anatomy.cage_depth(z, y, x), out=lines)
        return np.minimum(lines, z - start, out=lines)

    for lung in (0, 1):
        shape = _lung_shape(scene, lung, mesh, -5, anatomy.domes[lung] + 90)
        scene.draw(shape, -250, within=LUNG)
    return scene.finding("bilateral")


def pleural_effusion(scene: Scene) -> Finding:
    """Draw fluid behind the lung, thickest at the base."""
    side, anatomy = scene.pick_side(bilateral=0.35), scene.anatomy
    b = anatomy.cage[0]
    thickness = round(2 * scene.radius(13, 24, 1.5))
    top = np.float32(anatomy.center[0] - 45)
    wall = np.float32(anatomy.center[1] + 0.917 * b)  # back wall of the rib cage at 0.4 of its width

    def fluid(z: Array, y: Array, _x: Array) -> Array:
        level = wall - thickness * np.clip((z - top) / np.float32(75), -0.5, 1)
        # rank 3 whatever the box: the caller covers in place
        return np.minimum(y - level, z - top) + np.zeros_like(_x)

    for lung in sides(side):
        scene.draw(_lung_shape(scene, lung, fluid, -45, anatomy.domes[lung] + 90), 5, within=LUNG)
    return scene.finding(side, size_mm=thickness)
