"""Affine, spacing and size of a header: what is missing, and what no chest CT has."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ct_vlm.transforms.orientation import axcodes_of, is_degenerate, oblique_degrees, spacing_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ct_vlm.datasets.audit.headers import HeaderFacts

    Problem = tuple[str, str]
    Rows = tuple[tuple[float, ...], ...]

LPS = ("L", "P", "S")
_CODES = (("L", "R"), ("P", "A"), ("I", "S"))  # of a falling and of a rising coordinate
_USABLE_MM = (1e-3, 100.0)  # what `load_volume` accepts
PLAUSIBLE_MM = (0.1, 12.0)
_EXTENT_MM = (80.0, 1500.0)
_VOXELS = (16, 4096)
_OBLIQUE_DEGREES = 0.5


def check_geometry(facts: HeaderFacts, axcodes: tuple[str, str, str] = LPS) -> Iterator[Problem]:
    """Yield what is wrong with the geometry of a header that should be right (not that of v1).

    Bounds are wide on purpose (inferred): they catch units and defaults, not unusual protocols.

    Args:
        facts: From :func:`ct_vlm.datasets.audit.headers.read_header`.
        axcodes: Axes of the data set's volumes.
    """
    yield from _check_affine(facts, axcodes)
    spacing = best_spacing(facts)
    usable = all(_USABLE_MM[0] <= size <= _USABLE_MM[1] for size in spacing)  # NaN compares as False
    if not usable:
        yield "header.bad_spacing", _millimetres(spacing)
    elif not all(PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1] for size in spacing):
        yield "header.implausible_spacing", _millimetres(spacing)
    else:
        extent = tuple(size * count for size, count in zip(spacing, facts.shape, strict=True))
        if not all(_EXTENT_MM[0] <= size <= _EXTENT_MM[1] for size in extent):
            yield "header.implausible_spacing", f"extent {_millimetres(extent)}"
    if not all(_VOXELS[0] <= count <= _VOXELS[1] for count in facts.shape):
        yield "header.implausible_size", str(facts.shape)
    if facts.units in {1, 3}:
        yield "header.units", "metre" if facts.units == 1 else "micrometre"


class Axes(NamedTuple):
    """Direction codes and voxel sizes of the array axes, and how far they are turned."""

    codes: tuple[str, str, str]
    spacing: tuple[float, float, float]
    degrees: float


@np.errstate(all="ignore")  # damaged fields overflow
def usable_affine(facts: HeaderFacts) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """Return the affine, or ``None`` where it is missing or degenerate."""
    if facts.affine is None:
        return None
    affine = np.array([*facts.affine, (0.0, 0.0, 0.0, 1.0)])
    return None if is_degenerate(affine) else affine


@np.errstate(all="ignore")  # damaged fields overflow
def axes_of(facts: HeaderFacts) -> Axes | None:
    """Return the axes of a header, or ``None`` where its affine is missing or degenerate."""
    aligned = None if facts.affine is None else _aligned_axes(facts.affine)
    if aligned is not None:
        return aligned
    affine = usable_affine(facts)
    return None if affine is None else Axes(axcodes_of(affine), spacing_of(affine), oblique_degrees(affine))


def best_spacing(facts: HeaderFacts) -> tuple[float, float, float]:
    """Return the voxel size in mm by the affine, or by the voxel sizes where it cannot be used."""
    axes = axes_of(facts)
    if axes is not None:
        return axes.spacing
    x, y, z = (abs(size) for size in (*facts.zooms, 1.0, 1.0, 1.0)[:3])
    return x, y, z


def common_axcodes(headers: Iterable[HeaderFacts]) -> tuple[str, str, str]:
    """Return the axes of most headers, L, P, S where they tell nothing."""
    axes = (axes_of(facts) for facts in headers)
    counts = Counter(found.codes for found in axes if found is not None)
    return counts.most_common(1)[0][0] if counts else LPS


def _check_affine(facts: HeaderFacts, axcodes: tuple[str, str, str]) -> Iterator[Problem]:
    """Yield what is wrong with the affine."""
    axes = axes_of(facts)
    if facts.affine is None:
        yield "header.no_affine", ""
    elif axes is None:
        finite = all(math.isfinite(value) for row in facts.affine for value in row)
        yield ("header.degenerate_affine" if finite else "header.nan_affine"), f"rows {facts.affine}"
    else:
        codes = axes.codes
        if codes[2] not in {"S", "I"}:
            yield "header.non_axial", f"axes {', '.join(codes)}"
        elif codes != axcodes:
            yield "header.orientation", f"axes {', '.join(codes)}, usual {', '.join(axcodes)}"
        if axes.degrees > _OBLIQUE_DEGREES:
            yield "header.oblique", f"{axes.degrees:.1f} degrees"


def _aligned_axes(rows: Rows) -> Axes | None:
    """Return the axes of a grid that is not turned, many times faster than by way of its rotation."""
    along = [[row for row in range(3) if rows[row][column] != 0] for column in range(3)]  # NaN is unequal to 0
    if sorted(along) != [[0], [1], [2]] or not all(math.isfinite(value) for row in rows for value in row):
        return None
    steps = [rows[row][column] for column, (row,) in enumerate(along)]
    if any(abs(step) < _USABLE_MM[0] for step in steps):
        return None
    first, second, third = (_CODES[row][step > 0] for (row,), step in zip(along, steps, strict=True))
    return Axes((first, second, third), (abs(steps[0]), abs(steps[1]), abs(steps[2])), 0.0)


def _millimetres(sizes: tuple[float, ...]) -> str:
    return " x ".join(f"{size:g}" for size in sizes) + " mm"
