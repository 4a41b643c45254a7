"""Pleural effusion: volume and thickness of each side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.attributes.components import bounding_box, find_components, touches_edge
from ct_vlm.attributes.organs import SIDES
from ct_vlm.attributes.placing import Places
from ct_vlm.attributes.result import Effusion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ct_vlm.attributes.components import Component
    from ct_vlm.attributes.masks import MaskSet
    from ct_vlm.attributes.result import Side

    Mask = NDArray[np.bool_]

_BOTH_SHARE = 0.2  # (inferred)


def measure_effusions(
    masks: MaskSet, lungs: Mapping[Side | None, Mask], *, min_volume_ml: float
) -> tuple[Effusion, ...] | None:
    """Measure the pleural effusion of each side.

    A mask that names its side is taken at its word. Otherwise a component belongs to the side of the
    lung that most of it is nearest to, or is divided voxel by voxel if at least a fifth of it is
    nearest to the other: fluid of one side reaches over the spine, and that of both sides may touch.
    Where either lung has no mask, or an empty one (it may have collapsed), the side stays unknown
    rather than wrong. (All of this is inferred.)

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
    min_voxels = max(1.0, min_volume_ml / masks.voxel_ml)
    parts: dict[Side | None, Mask] = {side: np.zeros(masks.shape, bool) for side in (*SIDES, None)}
    for side, mask in sided.items():
        for component in find_components(mask, min_voxels)[1]:
            parts[side][component.box] |= component.mask
    if whole is not None:
        rest = whole & ~np.logical_or.reduce(list(sided.values())) if sided else whole
        _divide(find_components(rest, min_voxels)[1], lungs, masks.spacing, parts)
    return tuple(_measure(side, mask, masks) for side, mask in parts.items() if mask.any())


def _divide(
    components: Sequence[Component],
    lungs: Mapping[Side | None, Mask],
    spacing: tuple[float, float, float],
    parts: dict[Side | None, Mask],
) -> None:
    """Add components of fluid to the side of the nearest lung."""
    is_known = all(side in lungs and lungs[side].any() for side in SIDES)
    places = Places({side: lungs[side] for side in SIDES} if is_known else {}, spacing)
    for component in components:
        numbers, _ = places.votes(component.box, component.mask)
        if numbers is None:
            parts[None][component.box] |= component.mask
            continue
        share = float(np.mean(numbers == 1))
        if min(share, 1 - share) < _BOTH_SHARE:
            numbers = np.full(len(numbers), 1 if share > 0.5 else 2)
        for number, side in enumerate(SIDES, start=1):
            parts[side][component.box][component.mask] |= numbers == number


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
