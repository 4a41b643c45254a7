"""Volumes of lungs, heart, liver and kidneys, a side where there are two."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from ct_vlm.attributes.components import find_components, touches_edge
from ct_vlm.attributes.result import Organ, Side
from ct_vlm.text.places import LOBES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ct_vlm.attributes.masks import MaskSet

    Mask = NDArray[np.bool_]

SIDES: tuple[Side, ...] = get_args(Side)
_PAIR_SHARE = 0.2  # a second part this large, of the first one's volume, is the other organ of a pair (inferred)


class OrganMasks(NamedTuple):
    """The organs of a scan.

    Args:
        lungs: Side to mask; the key None holds both where they could not be told apart.
        kidneys: The same of the kidneys.
        lobes: Lobe to mask, as far as there are any.
        single: ``heart`` and ``liver``.
    """

    lungs: dict[Side | None, Mask]
    kidneys: dict[Side | None, Mask]
    lobes: dict[str, Mask]
    single: dict[str, Mask]


def organ_masks(masks: MaskSet) -> OrganMasks:
    """Return the organs' masks, pairs by side.

    A lung without a mask of its own is the union of its lobes. A mask of both lungs or kidneys is
    split: at the column halfway between the lungs where those have sides, else into its two
    largest components if they are apart and of similar size. (Inferred: the papers name sides and
    do not say how they are told apart.)

    Args:
        masks: Of the scan.
    """
    lobes = {name: mask for name in LOBES if (mask := masks.structure(name)) is not None}
    lungs: dict[Side | None, Mask] = {}
    for side in SIDES:
        own = masks.structure(f"{side} lung")
        parts = [mask for name, mask in lobes.items() if name.startswith(side)]
        if own is None and parts:
            own = np.logical_or.reduce(parts)
        if own is not None:
            lungs[side] = own
    if not lungs:
        lungs = _split(masks.structure("lung"), None)
    kidneys: dict[Side | None, Mask] = {
        side: mask for side in SIDES if (mask := masks.structure(f"{side} kidney")) is not None
    } or _split(masks.structure("kidney"), _midline(lungs))
    single = {name: mask for name in ("heart", "liver") if (mask := masks.structure(name)) is not None}
    return OrganMasks(lungs, kidneys, lobes, single)


def organ_volumes(organs: OrganMasks, voxel_ml: float) -> tuple[Organ, ...]:
    """Return the volume of each organ: its voxels times the volume of a voxel.

    Args:
        organs: Their masks.
        voxel_ml: Volume of a voxel in mL.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes import MaskSet, organ_masks, organ_volumes
        >>> masks = MaskSet({"left lung": np.ones((10, 10, 10), bool)}, spacing=(2, 2, 2))
        >>> organ_volumes(organ_masks(masks), masks.voxel_ml)
        (Organ(name='lung', side='left', volume_ml=8.0, is_partial=True),)
    """
    named: list[tuple[str, Side | None, Mask]] = [("lung", side, mask) for side, mask in organs.lungs.items()]
    named += [(name, None, mask) for name, mask in organs.single.items()]
    named += [("kidney", side, mask) for side, mask in organs.kidneys.items()]
    return tuple(
        Organ(name, side, int(np.count_nonzero(mask)) * voxel_ml, touches_edge(mask)) for name, side, mask in named
    )


def _midline(lungs: dict[Side | None, Mask]) -> float | None:
    """Return the column halfway between the lungs' centres; None unless both are there."""
    centres = []
    for side in SIDES:
        counts = lungs[side].sum(axis=(0, 1)) if side in lungs else np.zeros(1)
        if not counts.any():
            return None
        centres.append(float(np.average(np.arange(len(counts)), weights=counts)))
    return sum(centres) / 2


def _split(mask: Mask | None, midline: float | None) -> dict[Side | None, Mask]:
    """Split a mask of a pair into sides, if they can be told."""
    if mask is None:
        return {}
    if midline is not None:
        is_right = np.arange(mask.shape[2]) < midline
        return {"right": mask & is_right, "left": mask & ~is_right}
    _, found = find_components(mask, max_components=2)
    if len(found) < 2 or found[1].num_voxels < _PAIR_SHARE * found[0].num_voxels:
        return {None: mask}
    columns = [part.box[2].start + np.nonzero(part.mask)[2].mean() for part in found]
    middle = sum(columns) / 2
    right = found[int(np.argmin(columns))]
    result = np.zeros_like(mask)
    result[right.box] |= right.mask
    left = found[int(np.argmax(columns))]
    # crumbs go to the side that they lie on
    rest = mask & ~result
    rest[left.box] &= ~left.mask
    result |= rest & (np.arange(mask.shape[2]) < middle)
    return {"right": result, "left": mask & ~result}
