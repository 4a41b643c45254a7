"""Drawing the healthy body: chest wall, bones, lungs, mediastinum and upper abdomen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.schema import ORGANS
from ct_vlm.phantoms.shapes import Shape, capsule, ellipsoid, upright_tube

if TYPE_CHECKING:
    from ct_vlm.phantoms.anatomy import Anatomy
    from ct_vlm.phantoms.canvas import Canvas
    from ct_vlm.phantoms.shapes import Array

ORGAN = {name: index + 1 for index, name in enumerate(ORGANS)}
FAT, MUSCLE, BLOOD, BONE = -95.0, 45.0, 42.0, 330.0
_EVERYWHERE = 1e4
_RIB_PERIOD, _RIB_TILT = 25.0, 0.28


def weights(*organs: int) -> Array:
    """Return the ``within`` weights that let a shape touch only these organ classes."""
    table = np.zeros(256, np.float32)
    table[list(organs)] = 1
    return table


LUNG = weights(1, 2, 3, 4, 5)


def paint_body(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Draw everything a healthy scan shows, except the heart."""
    paint_trunk(canvas, anatomy)
    paint_skeleton(canvas, anatomy)
    paint_mediastinal_fat(canvas, anatomy)
    paint_abdomen(canvas, anatomy)
    for side in (0, 1):
        paint_lung(canvas, anatomy, side)
    paint_lung_vessels(canvas, anatomy, rng)
    paint_surface_organs(canvas, anatomy)


def paint_trunk(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw skin, fat, muscle, rib cage and the fat that fills it, in one pass over the grid."""
    depth_half, width_half = anatomy.body
    half = np.float32(np.sqrt(depth_half * width_half) / 2)
    whole = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]), slice(0, canvas.shape[2]))
    for sub, z, y, x in canvas.chunks(whole):
        taper = 1 - 0.1 * np.clip((-100 - z) / 50, 0, 1)
        body = half - half * ((x - anatomy.middle(z)) / (width_half * taper)) ** 2
        body = body - half * ((y - np.float32(anatomy.center[1])) / np.float32(depth_half)) ** 2
        cage = anatomy.cage_depth(z, y, x)
        ribs = np.abs(cage + np.float32(5))
        ribs = canvas.cover(np.subtract(np.float32(4.5), ribs, out=ribs))
        ribs *= _rib_stripes(anatomy, z, y, canvas.voxel)
        hu = canvas.hu[sub]
        hu += (FAT + 1000) * canvas.cover(body.copy())
        body -= np.float32(anatomy.fat)
        hu += (MUSCLE - FAT) * canvas.cover(body)
        cage = canvas.cover(cage)
        cage *= body
        hu -= (MUSCLE - FAT) * cage
        ribs *= body
        np.copyto(canvas.organs[sub], np.uint8(ORGAN["bone"]), where=ribs > 0.5)
        ribs *= np.float32(BONE) - hu
        hu += ribs


def _rib_stripes(anatomy: Anatomy, z: Array, y: Array, voxel: float) -> Array:
    """Return the share of rib at a height and depth: ribs run down toward the front."""
    phase = (z - np.float32(anatomy.center[0])) + _RIB_TILT * (y - np.float32(anatomy.center[1]))
    distance = np.abs((phase / _RIB_PERIOD) % 1 - 0.5) * _RIB_PERIOD
    stripes: Array = np.clip((5.5 - distance) / voxel + 0.5, 0, 1)
    return stripes


def paint_skeleton(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw spine, spinal canal, sternum and shoulder blades."""
    bone, low = ORGAN["bone"], 150.0
    spine = anatomy.spine_y
    column = [anatomy.at(-155, spine - 6, 0), anatomy.at(-60, spine, 0), anatomy.at(155, spine - 8, 0)]
    canvas.paint(upright_tube(column, 16, flat=1.2), lambda z, _y, _x: _vertebrae(z, anatomy), organ=bone)
    back = spine + 27
    arch = [anatomy.at(-155, back - 6, 0), anatomy.at(155, back - 8, 0)]
    canvas.paint(upright_tube(arch, 11, flat=1.5), 260, organ=bone)
    canal = [anatomy.at(-155, back - 12, 0), anatomy.at(155, back - 14, 0)]
    canvas.paint(upright_tube(canal, 7.5), 30)
    front = -anatomy.cage[0] - 4
    plate = [anatomy.at(-92, front + 10, 0), anatomy.at(-40, front, 0), anatomy.at(45, front, 0)]
    canvas.paint(upright_tube(plate, 6.5, flat=2.6), 220, organ=bone)
    for side in (-1, 1):
        top = anatomy.at(-138, anatomy.cage[0] * 0.75, side * anatomy.cage[1] * 0.78)
        tip = anatomy.at(-25, anatomy.cage[0] * 0.86, side * anatomy.cage[1] * 0.72)
        canvas.paint(capsule(top, tip, 5), low + 80, organ=bone)


def _vertebrae(z: Array, anatomy: Anatomy) -> Array:
    """Return the value along the spine: bone bodies and softer discs."""
    phase = (z - np.float32(anatomy.center[0])) / 26 % 1
    value: Array = np.where(phase < 0.2, np.float32(95), np.float32(230))
    return value


def paint_mediastinal_fat(canvas: Canvas, anatomy: Anatomy) -> None:
    """Label the space between the lungs; its fat was drawn with the trunk."""
    shape = ellipsoid(anatomy.at(-20, -8, 0), (105, 0.86 * anatomy.cage[0], 48))
    canvas.paint(shape.cut(anatomy.cage_depth), FAT, organ=ORGAN["mediastinum"], within=weights(0))


def paint_abdomen(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw liver, spleen, kidneys and stomach under the diaphragm."""
    k, (b, a) = anatomy.liver, anatomy.cage
    right, left = anatomy.domes
    free = weights(0, ORGAN["mediastinum"])

    def under(shape: Shape, side: int) -> Shape:
        return shape.cut(anatomy.cage_depth, lambda z, y, x: z - anatomy.dome(y, x, side) - 3)

    liver = ellipsoid(anatomy.at(right + 52, -6, -0.42 * a), (64 * k, 0.92 * b, 0.64 * a))
    canvas.paint(under(liver, 0), 58, organ=ORGAN["liver"], within=free)
    left_liver = ellipsoid(anatomy.at(right + 48, -0.45 * b, 8), (36 * k, 0.38 * b, 0.36 * a))
    canvas.paint(under(left_liver, 0), 58, organ=ORGAN["liver"], within=free)
    stomach = ellipsoid(anatomy.at(left + 52, -0.24 * b, 0.46 * a), (38 * k, 0.44 * b, 0.34 * a))
    stomach_y = anatomy.center[1] - 0.42 * b
    canvas.paint(
        under(stomach, 1), lambda _z, y, _x: np.where(y < stomach_y, np.float32(-920), np.float32(22)), within=free
    )
    spleen = ellipsoid(anatomy.at(left + 58, 0.5 * b, 0.72 * a), (44 * k, 0.42 * b, 0.24 * a))
    canvas.paint(under(spleen, 1), 50, organ=ORGAN["spleen"], within=free)
    for side in (-1, 1):
        kidney = ellipsoid(anatomy.at(138 - 8 * side, 0.52 * b, side * 0.44 * a), (44 * k, 20, 25))
        canvas.paint(kidney, 34, organ=ORGAN["kidneys"], within=weights(0, ORGAN["liver"], ORGAN["spleen"]))


def paint_lung(canvas: Canvas, anatomy: Anatomy, side: int) -> None:
    """Draw one lung with its lobes; gravity makes the back a little denser."""
    b, a = anatomy.cage
    cz, cy, cx = anatomy.center
    lean = abs(anatomy.tilt) * 160
    left, right = (cx, cx + a + lean) if side else (cx - a - lean, cx)
    low, high = (cz - 30 - anatomy.apex_height, cy - b, left), (cz + anatomy.domes[side] + 95, cy + b, right)
    depth = anatomy.lung_depth(side)
    box = canvas.box(low, high)
    if box is None:
        return
    bone = ORGAN["bone"]
    for sub, z, y, x in canvas.chunks(box):
        cover = canvas.cover(depth(z, y, x))
        oblique, horizontal = anatomy.fissures(z, y)
        upper = np.where(horizontal < 0, 1, 2) if side == 0 else 4
        lobe = np.where(oblique > 0, 3 if side == 0 else 5, upper).astype(np.uint8)
        organs = canvas.organs[sub]
        np.copyto(organs, lobe, where=(cover > 0.5) & (organs != bone))
        density = np.float32(anatomy.lung_hu) + np.float32(0.35) * (y - np.float32(cy))
        line = np.clip(1 - np.abs(oblique) / canvas.voxel, 0, 1) * min(1.0, 1.5 / canvas.voxel)
        cover *= (density + 500 * line) - canvas.hu[sub]
        canvas.hu[sub] += cover


def paint_lung_vessels(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Draw branching vessels from each hilum toward the chest wall."""
    b, a = anatomy.cage
    for side in (-1, 1):
        root = np.array(anatomy.at(-22, 2, side * 34))
        for _ in range(3):
            target = np.array(
                anatomy.at(rng.uniform(-90, 62), rng.uniform(-0.6, 0.7) * b, side * rng.uniform(0.6, 0.8) * a)
            )
            fork = root + (target - root) * rng.uniform(0.4, 0.55)
            canvas.paint(capsule(_xyz(root), _xyz(fork), 3.4), BLOOD, within=LUNG)
            for _ in range(2):
                end = target + rng.uniform(-18, 18, 3)
                canvas.paint(capsule(_xyz(fork), _xyz(end), 1.8), BLOOD - 40, within=LUNG)


def _xyz(point: Array) -> tuple[float, float, float]:
    return (float(point[0]), float(point[1]), float(point[2]))


def paint_surface_organs(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw thyroid and breasts."""
    for side in (-1, 1):
        lobe = ellipsoid(anatomy.at(-128, -0.3 * anatomy.cage[0], side * 17), (20, 10, 10))
        canvas.paint(lobe, 115, organ=ORGAN["thyroid"])
        if anatomy.sex == "F":
            _paint_breast(canvas, anatomy, side)


def _paint_breast(canvas: Canvas, anatomy: Anatomy, side: int) -> None:
    front = -anatomy.body[0] * 0.86
    center = anatomy.at(8, front, side * 0.5 * anatomy.body[1])
    breast = ellipsoid(center, (52, 24, 46))
    outside = breast.cut(lambda z, y, x: -anatomy.cage_depth(z, y, x) - 12)
    canvas.paint(outside, FAT, organ=ORGAN["breast"], within=weights(0))
    gland = ellipsoid(center, (26, 12, 24))
    canvas.paint(gland.cut(lambda z, y, x: -anatomy.cage_depth(z, y, x) - 14), 15, within=weights(ORGAN["breast"]))


def paint_mediastinum(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw aorta, central veins and arteries, esophagus and airways."""
    at, r = anatomy.at, anatomy.aorta
    aorta = ORGAN["aorta"]
    top = -62.0
    canvas.paint(upright_tube([at(-88, -10, -24), at(0, -16, -26)], 8.5), BLOOD, organ=ORGAN["mediastinum"])
    for side in (-1, 1):
        start, end = at(-26, -14, 14), at(-20, 4, side * 40)
        canvas.paint(capsule(start, end, 9), BLOOD, organ=ORGAN["mediastinum"])
    for path in aorta_path(anatomy):
        canvas.paint(path, BLOOD, organ=aorta)
    canvas.paint(capsule(at(-92, -8, -6), at(top - 8, -8, -2), 6), BLOOD, organ=ORGAN["mediastinum"])
    canvas.paint(capsule(at(-110, -2, 24), at(top - 8, 0, 8), 5), BLOOD, organ=ORGAN["mediastinum"])
    gullet = [at(-155, 26, 4), at(-60, 24, 4), at(60, 26, 8), at(95, 18, 18)]
    canvas.paint(upright_tube(gullet, 8), 32, organ=ORGAN["esophagus"])
    canvas.paint(upright_tube(gullet, r * 0.2), -300, organ=ORGAN["esophagus"])
    paint_airways(canvas, anatomy)


def aorta_path(anatomy: Anatomy) -> tuple[Shape, ...]:
    """Return ascending aorta, arch and descending aorta."""
    at, r = anatomy.at, anatomy.aorta
    ascending = upright_tube([at(-58, -22, -8), at(-8, -24, -6)], r)
    arch = capsule(at(-60, -20, -4), at(-58, anatomy.spine_y - 24, 24), r)
    low = [at(-60, anatomy.spine_y - 22, 26), at(40, anatomy.spine_y - 22, 24), at(155, anatomy.spine_y - 30, 10)]
    return ascending, arch, upright_tube(low, r * 0.92)


def bronchi(anatomy: Anatomy, side: int) -> list[tuple[tuple[float, float, float], tuple[float, float, float], float]]:
    """Return start, end and inner radius of the central bronchi of one side, main bronchus first."""
    at, s = anatomy.at, -1 if side == 0 else 1
    hilum = at(-12, 12, s * 36)
    return [
        (at(-40, 10, 0), hilum, 6.0),
        (hilum, at(-52, 6, s * 62), 3.2),
        (hilum, at(34, 30, s * 62), 3.6),
    ]


def paint_airways(canvas: Canvas, anatomy: Anatomy) -> None:
    """Draw trachea and central bronchi with thin walls and air inside."""
    at, airway = anatomy.at, ORGAN["airways"]
    trachea = [at(-155, 6, 0), at(-38, 10, 0)]
    parts = [upright_tube(trachea, 10.5)]
    lumens = [upright_tube(trachea, 8.8)]
    for side in (0, 1):
        for start, end, radius in bronchi(anatomy, side):
            parts.append(capsule(start, end, radius + 1.6))
            lumens.append(capsule(start, end, radius))
    for part in parts:
        canvas.paint(part, 20, organ=airway)
    for lumen in lumens:
        canvas.paint(lumen, -985, organ=airway)


def heart_shape(anatomy: Anatomy, factor: float = 1.0, extra: float = 0.0) -> Shape:
    """Return the heart, optionally enlarged or with a rim of ``extra`` mm; it rests on the diaphragm."""
    rz, ry, rx = anatomy.heart_radii
    radii = (rz * factor + extra, ry * factor + extra, rx * factor + extra)
    z, y, x = anatomy.heart_center
    # an enlarged heart grows to the left and to the front, held by spine and diaphragm
    shape = ellipsoid(
        (z - 3 * (factor - 1) * 8, y - (factor - 1) * 12, x + (factor - 1) * 30), radii, anatomy.heart_angle
    )
    floor = 10.0

    def above(z: Array, y: Array, x: Array) -> Array:
        lower = np.minimum(anatomy.dome(y, x, 0), anatomy.dome(y, x, 1))
        return lower + np.float32(floor) - z

    return shape.cut(above, anatomy.cage_depth)


def paint_heart(canvas: Canvas, anatomy: Anatomy, factor: float = 1.0) -> None:
    """Draw the heart, enlarged by a factor, in its fat."""
    keep = weights(0, 1, 2, 3, 4, 5, ORGAN["mediastinum"], ORGAN["liver"])
    canvas.paint(heart_shape(anatomy, factor, 4), FAT + 20, organ=ORGAN["mediastinum"], within=keep)
    canvas.paint(heart_shape(anatomy, factor), BLOOD, organ=ORGAN["heart"], within=keep)
