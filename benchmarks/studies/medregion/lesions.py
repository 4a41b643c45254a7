"""Phantoms without findings, most of which get one small lesion in one of six regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms import make_phantom
from ct_vlm.phantoms.streams import stream
from ct_vlm.phantoms.writing.radgenome_masks import region_mask
from ct_vlm.text.regions import MEDREGION_REGIONS, RADGENOME_REGIONS, RADGENOME_TO_MEDREGION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.studies.medregion.recipe import SelectionRecipe, Shape

PLACEMENTS = ("largest slice", "any slice")
"""Where a lesion's centre lies: within one slice of the largest of its region, or in any that has enough of it."""

_SOFT, _CALCIFIED, _LYTIC = 60, 500, -40
LESION_HU = dict(zip(MEDREGION_REGIONS, (_SOFT, _SOFT, _CALCIFIED, _CALCIFIED, _LYTIC, _CALCIFIED), strict=True))
"""HU of a lesion: soft tissue in air and in bone, calcium in soft tissue."""


@dataclass(frozen=True)
class LesionScan:
    """One phantom.

    Args:
        volume: HU.
        masks: One a region.
        region: Index of the region with the lesion; -1 where there is none.

    Shape:
        - volume: ``(D, H, W)``.
        - masks: ``(R, D, H, W)``.
    """

    volume: NDArray[np.int16]
    masks: NDArray[np.uint8]
    region: int


def lesion_scan(seed: int, shape: Shape, placement: str, recipe: SelectionRecipe) -> LesionScan:
    """Draw one phantom; anatomy, noise and region of the lesion are the same for both placements.

    Args:
        seed: Seed of the phantom.
        shape: Its grid.
        placement: One of :data:`PLACEMENTS`.
        recipe: Share and size of lesions.
    """
    phantom = make_phantom(seed, shape, labels=[])
    masks = _region_masks(phantom.segmentation)
    rng = stream(seed, "study lesion")
    region = int(rng.integers(len(MEDREGION_REGIONS)))
    if rng.random() >= recipe.share:
        return LesionScan(phantom.volume, masks, -1)
    volume = phantom.volume.copy()
    centre = _centre(masks[region], placement, rng)
    ball = _ball(shape, centre, phantom.spacing, recipe.diameter_mm / 2)
    noise = rng.normal(0, 10, volume.shape)
    inside = ball & (masks[region] > 0)
    volume[inside] = (LESION_HU[MEDREGION_REGIONS[region]] + noise[inside]).astype(np.int16)
    return LesionScan(volume, masks, region)


def _region_masks(segmentation: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the masks of the six regions of a phantom without findings."""
    masks = np.zeros((len(MEDREGION_REGIONS), *segmentation.shape), np.uint8)
    for name in RADGENOME_REGIONS:
        merged = RADGENOME_TO_MEDREGION[name]
        if merged in MEDREGION_REGIONS:
            masks[MEDREGION_REGIONS.index(merged)] |= region_mask(name, segmentation, segmentation)
    return masks


def _centre(mask: NDArray[np.uint8], placement: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """Choose a voxel of a region."""
    area = mask.sum((1, 2))
    largest = int(area.argmax())
    if placement == PLACEMENTS[0]:
        near = np.arange(max(0, largest - 1), min(len(area), largest + 2))
        slices = near[area[near] > 0]
    else:
        slices = np.flatnonzero(area >= 0.25 * area[largest])
    chosen = int(rng.choice(slices))
    rows, columns = np.nonzero(mask[chosen])
    place = int(rng.integers(len(rows)))
    return chosen, int(rows[place]), int(columns[place])


def _ball(
    shape: Shape, centre: tuple[int, int, int], spacing: tuple[float, float, float], radius: float
) -> NDArray[np.bool_]:
    """Return the voxels whose centres lie in a ball."""
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    away = sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing, strict=True))
    inside: NDArray[np.bool_] = np.asarray(away <= radius**2)
    return inside
