"""Affine, spacing and size of a header: what is missing, and what no chest CT has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.transforms.orientation import axcodes_of, is_degenerate, oblique_degrees, spacing_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct_vlm.datasets.audit.headers import HeaderFacts

    Problem = tuple[str, str]

LPS = ("L", "P", "S")
_USABLE_MM = (1e-3, 100.0)  # what `load_volume` accepts
_PLAUSIBLE_MM = (0.1, 12.0)
_EXTENT_MM = (80.0, 1500.0)
_VOXELS = (16, 4096)
_OBLIQUE_DEGREES = 0.5


def check_geometry(facts: HeaderFacts) -> Iterator[Problem]:
    """Yield what is wrong with the geometry of a header that should be right (not that of v1).

    Bounds are wide on purpose (inferred): they catch units and defaults, not unusual protocols.
    """
    yield from _check_affine(facts)
    spacing = best_spacing(facts)
    usable = all(_USABLE_MM[0] <= size <= _USABLE_MM[1] for size in spacing)  # NaN compares as False
    if not usable:
        yield "header.bad_spacing", _millimetres(spacing)
    elif not all(_PLAUSIBLE_MM[0] <= size <= _PLAUSIBLE_MM[1] for size in spacing):
        yield "header.implausible_spacing", _millimetres(spacing)
    else:
        extent = tuple(size * count for size, count in zip(spacing, facts.shape, strict=True))
        if not all(_EXTENT_MM[0] <= size <= _EXTENT_MM[1] for size in extent):
            yield "header.implausible_spacing", f"extent {_millimetres(extent)}"
    if not all(_VOXELS[0] <= count <= _VOXELS[1] for count in facts.shape):
        yield "header.implausible_size", str(facts.shape)
    if facts.units in {1, 3}:
        yield "header.units", "metre" if facts.units == 1 else "micrometre"


def usable_affine(facts: HeaderFacts) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """Return the affine, or ``None`` where it is missing or degenerate."""
    if facts.affine is None:
        return None
    affine = np.array([*facts.affine, (0.0, 0.0, 0.0, 1.0)])
    return None if is_degenerate(affine) else affine


def best_spacing(facts: HeaderFacts) -> tuple[float, float, float]:
    """Return the voxel size in mm by the affine, or by the voxel sizes where it cannot be used."""
    affine = usable_affine(facts)
    if affine is not None:
        return spacing_of(affine)
    x, y, z = (abs(size) for size in (*facts.zooms, 1.0, 1.0, 1.0)[:3])
    return x, y, z


def _check_affine(facts: HeaderFacts) -> Iterator[Problem]:
    """Yield what is wrong with the affine."""
    affine = usable_affine(facts)
    if facts.affine is None:
        yield "header.no_affine", ""
    elif affine is None:
        finite = all(math.isfinite(value) for row in facts.affine for value in row)
        yield ("header.degenerate_affine" if finite else "header.nan_affine"), f"rows {facts.affine}"
    else:
        codes = axcodes_of(affine)
        if codes[2] not in {"S", "I"}:
            yield "header.non_axial", f"axes {', '.join(codes)}"
        elif codes != LPS:
            yield "header.orientation", f"axes {', '.join(codes)}"
        angle = oblique_degrees(affine)
        if angle > _OBLIQUE_DEGREES:
            yield "header.oblique", f"{angle:.1f} degrees"


def _millimetres(sizes: tuple[float, ...]) -> str:
    return " x ".join(f"{size:g}" for size in sizes) + " mm"
