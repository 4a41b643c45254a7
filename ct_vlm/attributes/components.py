"""Connected components of a mask: lesions one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Box = tuple[slice, slice, slice]

_NEIGHBOURS = np.ones((3, 3, 3), bool)  # 26: corners connect


class Component(NamedTuple):
    """One connected part of a mask.

    Args:
        box: Where it lies on the grid.
        mask: Its voxels within the box.
        num_voxels: Number of its voxels.
    """

    box: Box
    mask: Mask
    num_voxels: int


def bounding_box(mask: Mask) -> Box | None:
    """Return the smallest box that holds a mask; None if it is empty.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes.components import bounding_box
        >>> bounding_box(np.eye(3, dtype=bool)[None, 1:])
        (slice(0, 1, None), slice(0, 2, None), slice(1, 3, None))
    """
    plane: Mask = np.any(mask, axis=0)
    parts = []
    for line in (np.any(mask, axis=(1, 2)), np.any(plane, axis=1), np.any(plane, axis=0)):
        used = np.flatnonzero(line)
        if used.size == 0:
            return None
        parts.append(slice(int(used[0]), int(used[-1]) + 1))
    return parts[0], parts[1], parts[2]


def find_components(
    mask: Mask, min_voxels: float = 1, max_components: int | None = None
) -> tuple[int, list[Component]]:
    """Return how many 26-connected components are large enough, and the largest of them.

    The time grows with the box that holds the mask, not with the number of components: those
    beyond ``max_components`` are counted and left.

    Args:
        mask: Voxels of all lesions.
        min_voxels: Smaller components are dropped.
        max_components: How many are returned at most.

    Shape:
        - mask: ``(D, H, W)``.

    Returns:
        Their number, and components from large to small (equal ones in the order of the grid).

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes.components import find_components
        >>> count, found = find_components(np.array([[[1, 0, 1, 1, 0, 1]]], bool), max_components=1)
        >>> count, found[0].box[2]
        (3, slice(2, 4, None))
    """
    from scipy import ndimage

    box = bounding_box(mask)
    if box is None:
        return 0, []
    labels, total = ndimage.label(mask[box], structure=_NEIGHBOURS)
    counts = np.bincount(labels.ravel(), minlength=total + 1)[1:]
    order = np.argsort(-counts, kind="stable")
    large = order[counts[order] >= min_voxels]
    kept = large[:max_components]
    numbers = np.zeros(total + 1, dtype=np.int32)
    numbers[kept + 1] = np.arange(1, len(kept) + 1)
    ranked = numbers[labels]
    result = []
    for rank, part in enumerate(ndimage.find_objects(ranked, max_label=len(kept)), start=1):
        place = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, part, strict=True))
        result.append(Component((place[0], place[1], place[2]), ranked[part] == rank, int(counts[kept[rank - 1]])))
    return len(large), result


def touches_edge(mask: Mask) -> bool:
    """Tell whether a mask reaches the first or last slice, row or column: the organ may go on outside.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes.components import touches_edge
        >>> touches_edge(np.pad(np.ones((1, 1, 1), bool), 1)), touches_edge(np.ones((1, 3, 3), bool))
        (False, True)
    """
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    return any(bool(side.any()) for side in sides)
