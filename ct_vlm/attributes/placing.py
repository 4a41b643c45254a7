"""Which lobe, lung or kidney holds a lesion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ct_vlm.attributes.components import bounding_box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ct_vlm.attributes.components import Component

    Mask = NDArray[np.bool_]
    Box = tuple[slice, slice, slice]

_FIRST_MARGIN_MM = 8.0
_MAX_VOXELS = 2**23  # of one distance transform: about two seconds and 200 MB


class Places:
    """Masks that lesions are placed in, as one label map.

    Args:
        masks: Name to mask; where two overlap, the first keeps the voxel.
        spacing: Voxel size in mm.

    Shape:
        - masks: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes.components import find_components
        >>> from ct_vlm.attributes.placing import Places
        >>> right, left, nodule = np.zeros((3, 1, 1, 8), bool)
        >>> right[..., :3], left[..., 5:], nodule[..., 3] = True, True, True
        >>> Places({"right lung": right, "left lung": left}, (1, 1, 1)).of(find_components(nodule)[1][0])
        ('right lung', 'nearest')
    """

    def __init__(self, masks: Mapping[str, Mask], spacing: tuple[float, float, float]) -> None:
        self.names = tuple(masks)
        self.spacing = spacing
        self.labels: NDArray[np.uint8] | None = None
        for number, mask in enumerate(masks.values(), start=1):
            if self.labels is None:
                self.labels = np.zeros(mask.shape, np.uint8)
            np.copyto(self.labels, np.uint8(number), where=mask & (self.labels == 0))
        self._is_empty = self.labels is None or not self.labels.any()

    def of(self, lesion: Component) -> tuple[str | None, Literal["overlap", "nearest"] | None]:
        """Return the place with most of a lesion, and how it was found.

        Each voxel counts for the place that it lies in, and one that lies in none (a lesion is
        often cut out of its lobe's mask) for the nearest. Ties go to the place that is named first.
        """
        labels, inside = self.votes(lesion.box, lesion.mask)
        if labels is None:
            return None, None
        winner = int(np.bincount(labels, minlength=len(self.names) + 1)[1:].argmax())
        return self.names[winner], "overlap" if inside > 0.5 else "nearest"

    def votes(self, box: Box, mask: Mask) -> tuple[NDArray[Any] | None, float]:
        """Return the number of the place of each voxel of a mask, and the share that lies in one.

        Args:
            box: Where the mask lies on the grid.
            mask: Voxels within that box.
        """
        if self.labels is None or self._is_empty:
            return None, 0.0
        found = self.labels[box][mask]
        lost = found == 0
        inside = 1 - float(lost.mean())
        if lost.any():
            voxels = np.argwhere(mask)[lost] + [part.start for part in box]
            found[lost] = _nearest(self.labels, voxels, self.spacing)
        return found, inside


def _nearest(labels: NDArray[np.uint8], voxels: NDArray[Any], spacing: tuple[float, float, float]) -> NDArray[Any]:
    """Return the label nearest to each voxel, from a distance transform around them.

    The part of the grid that is transformed grows until no nearer label can lie outside. One that
    is too large is thinned, so that a distance is then off by a few voxels.
    """
    from scipy import ndimage

    margin = _FIRST_MARGIN_MM
    while True:
        box = _around(voxels, labels.shape, margin, spacing)
        size = math.prod(part.stop - part.start for part in box)
        step = max(1, math.ceil((size / _MAX_VOXELS) ** (1 / 3)))
        part = labels[box][::step, ::step, ::step]
        is_whole = size == labels.size
        if part.any():
            sampling = [step * length for length in spacing]
            distance, where = ndimage.distance_transform_edt(part == 0, sampling=sampling, return_indices=True)
            at = tuple(((voxels - [p.start for p in box]) // step).T)
            if is_whole or distance[at].max() <= margin:
                return np.asarray(part[tuple(where[(slice(None), *at)])])
        elif is_whole:  # thinning stepped over every label
            return np.full(len(voxels), labels[labels > 0][0])
        margin *= 3


def _around(
    voxels: NDArray[Any], shape: tuple[int, ...], margin: float, spacing: tuple[float, float, float]
) -> tuple[slice, ...]:
    """Return the box around voxels with a margin in mm, within the grid."""
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    steps = [math.ceil(margin / size) for size in spacing]
    return tuple(
        slice(max(0, int(a) - n), min(length, int(b) + n + 1))
        for a, b, n, length in zip(low, high, steps, shape, strict=True)
    )


def vertical_extent(masks: Mapping[str, Mask]) -> tuple[int, int] | None:
    """Return first and last slice that any mask reaches; None if all are empty."""
    boxes = [box for box in map(bounding_box, masks.values()) if box is not None]
    if not boxes:
        return None
    return min(box[0].start for box in boxes), max(box[0].stop - 1 for box in boxes)
