"""Lesions one by one: count, size, place."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.attributes.components import find_components
from ct_vlm.attributes.feret import axial_extent
from ct_vlm.attributes.placing import Places, vertical_extent
from ct_vlm.attributes.result import Lesion, LesionGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ct_vlm.attributes.components import Component
    from ct_vlm.attributes.masks import MaskSet
    from ct_vlm.attributes.result import Level

    Mask = NDArray[np.bool_]

_LEVELS: tuple[Level, ...] = ("upper", "middle", "lower")


def measure_lesions(
    masks: MaskSet,
    structure: str,
    places: Mapping[str, Mask],
    *,
    common_level: bool,
    min_diameter_mm: float,
    max_lesions: int,
) -> LesionGroup | None:
    """Measure the lesions of a kind.

    Args:
        masks: Of the scan; a lesion mask may have a side in its name.
        structure: ``lung nodule`` or ``kidney cyst``.
        places: Where they may lie, sides first in the names ("right upper lobe").
        common_level: Whether thirds are those of all places together (lungs) or of each (kidneys).
        min_diameter_mm: Smaller ones, by the sphere of the same volume, are dropped.
        max_lesions: How many are measured; the rest is counted.

    Returns:
        Lesions from large to small; None if there is no mask of that kind.
    """
    given = {side: masks.structure(f"{side}{structure}") for side in ("", "right ", "left ")}
    parts = {side.strip(): mask for side, mask in given.items() if mask is not None}
    if not parts:
        return None
    min_voxels = math.pi / 6 * min_diameter_mm**3 / 1000 / masks.voxel_ml
    organ = "lung" if structure == "lung nodule" else "kidney"
    whole = vertical_extent(places) if common_level else None
    count, lesions = 0, []
    for side, mask in parts.items():
        # an unsided mask that also holds the sided ones would count them twice
        alone = mask if side else _without(mask, [other for name, other in parts.items() if name])
        number, found = find_components(alone, min_voxels, max_lesions)
        count += number
        chosen = {name: place for name, place in places.items() if name.startswith(side)}
        ground = Places(chosen, masks.spacing)
        extents = {name: whole if common_level else vertical_extent({name: place}) for name, place in chosen.items()}
        for component in found:
            place, source = ground.of(component)
            extent = extents.get(place or "")
            lesion = _measure(component, masks, extent)
            named = place or (f"{side} {organ}" if side else None)
            lesions.append((lesion, component, named, "mask" if side and place is None else source))
    # equally large ones from head to foot
    lesions.sort(key=lambda item: (-round(item[0].diameter_mm, 6), *(part.start for part in item[1].box)))
    results = [_placed(lesion, named, source) for lesion, _, named, source in lesions[:max_lesions]]
    return LesionGroup(count, tuple(results))


def _placed(lesion: Lesion, place: str | None, source: str | None) -> Lesion:
    """Return a lesion with its place."""
    return replace(lesion, place=place, place_source=source)  # type: ignore[arg-type]


def _measure(component: Component, masks: MaskSet, extent: tuple[int, int] | None) -> Lesion:
    """Measure one lesion."""
    volume_ml = component.num_voxels * masks.voxel_ml
    size = axial_extent(component.mask, masks.spacing[1:])
    start = component.box[0].start
    weights = component.mask.sum(axis=(1, 2))
    centre = start + float(np.average(np.arange(len(weights)), weights=weights))
    return Lesion(
        diameter_mm=size.long_mm,
        short_mm=size.short_mm,
        sphere_mm=(6 / math.pi * volume_ml * 1000) ** (1 / 3),
        volume_ml=volume_ml,
        level=None if extent is None else _level(centre, extent),
        slice_index=masks.slice_number(start + size.plane),
        is_partial=_reaches_border(component, masks.shape),
    )


def _level(centre: float, extent: tuple[int, int]) -> Level:
    """Return the third of a height that holds a slice; slices outside count as the nearest third."""
    first, last = extent
    share = (centre - first + 0.5) / (last - first + 1)
    return _LEVELS[min(2, max(0, int(3 * share)))]


def _reaches_border(component: Component, shape: tuple[int, ...]) -> bool:
    """Tell whether a component touches the first or last slice, row or column of the volume."""
    return any(part.start == 0 or part.stop == length for part, length in zip(component.box, shape, strict=True))


def _without(mask: Mask, others: list[Mask]) -> Mask:
    """Return a mask less others."""
    return mask & ~np.logical_or.reduce(others) if others else mask
