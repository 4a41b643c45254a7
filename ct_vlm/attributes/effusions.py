"""Pleural effusion: volume and thickness of each side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.attributes.components import bounding_box, find_components, touches_edge
from ct_vlm.attributes.organs import SIDES
from ct_vlm.attributes.placing import Places
from ct_vlm.attributes.result import Effusion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ct_vlm.attributes.masks import MaskSet
    from ct_vlm.attributes.result import Side

    Mask = NDArray[np.bool_]


def measure_effusions(
    masks: MaskSet, lungs: Mapping[Side | None, Mask], *, min_volume_ml: float
) -> tuple[Effusion, ...] | None:
    """Measure the pleural effusion of each side.

    A mask that names its side is taken at its word. Otherwise each voxel belongs to the side of
    the nearest lung; where either lung has no mask, or an empty one (it may have collapsed), the
    side stays unknown rather than wrong.

    Args:
        masks: Of the scan.
        lungs: Their masks by side.
        min_volume_ml: Smaller components are dropped.

    Returns:
        Right before left; None if there is no mask of effusion.
    """
    sided: dict[Side | None, Mask] = {
        side: mask for side in SIDES if (mask := masks.structure(f"{side} pleural effusion")) is not None
    }
    whole = masks.structure("pleural effusion")
    if whole is None and not sided:
        return None
    parts: dict[Side | None, Mask] = {
        side: _large(mask, min_volume_ml / masks.voxel_ml) for side, mask in sided.items()
    }
    if whole is not None:
        rest = whole & ~np.logical_or.reduce(list(sided.values())) if sided else whole
        for side, mask in _by_side(_large(rest, min_volume_ml / masks.voxel_ml), lungs, masks.spacing).items():
            parts[side] = parts[side] | mask if side in parts else mask
    order: tuple[Side | None, ...] = (*SIDES, None)
    return tuple(_measure(side, parts[side], masks) for side in order if side in parts and parts[side].any())


def _large(mask: Mask, min_voxels: float) -> Mask:
    """Return a mask without its small components."""
    result = np.zeros(mask.shape, bool)
    for component in find_components(mask, max(1.0, min_voxels))[1]:
        result[component.box] |= component.mask
    return result


def _by_side(
    mask: Mask, lungs: Mapping[Side | None, Mask], spacing: tuple[float, float, float]
) -> dict[Side | None, Mask]:
    """Split fluid by the nearest lung."""
    box = bounding_box(mask)
    if box is None:
        return {}
    if any(side not in lungs or not lungs[side].any() for side in SIDES):
        return {None: mask}
    numbers, _ = Places({side: lungs[side] for side in SIDES}, spacing).votes(box, mask[box])
    result: dict[Side | None, Mask] = {}
    for number, side in enumerate(SIDES, start=1):
        part = np.zeros(mask.shape, bool)
        part[box][mask[box]] = numbers == number
        result[side] = part
    return result


def _measure(side: Side | None, mask: Mask, masks: MaskSet) -> Effusion:
    """Measure the fluid of one side."""
    volume_ml = int(np.count_nonzero(mask)) * masks.voxel_ml
    return Effusion(side, volume_ml, longest_run(mask) * masks.spacing[1], touches_edge(mask))


def longest_run(mask: Mask) -> int:
    """Return the length of the longest unbroken run of True along H.

    Args:
        mask: Any mask.

    Shape:
        - mask: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes.effusions import longest_run
        >>> longest_run(np.array([1, 1, 0, 1, 1, 1, 0], bool)[None, :, None])
        3
    """
    box = bounding_box(mask)
    if box is None:
        return 0
    longest = 0
    for plane in mask[box]:
        count = np.cumsum(plane, axis=0, dtype=np.int32)
        before = np.maximum.accumulate(np.where(plane, 0, count), axis=0)
        longest = max(longest, int((count - before).max()))
    return longest
