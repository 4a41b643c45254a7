"""Where the slices of a preset's grid lie: in the stored file, and in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.transforms.orientation import axcodes_of
from ct_vlm.transforms.resample import crop_window, nearest_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ct_vlm.transforms.geometry import GeometryPlan
    from ct_vlm.transforms.presets import CTPreset
    from ct_vlm.transforms.volume import Volume

_AXES = {code: axis for axis, codes in enumerate(("RL", "AP", "SI")) for code in codes}


@dataclass(frozen=True)
class SlicePlaces:
    """Places of the slices of a resampled volume, along its first axis.

    Args:
        source: Slice of the volume, in the preset's orientation, that holds the middle of each; -1 where the
            slice is padding.
        stored: The same slice as the file numbers it, from 0; -1 where it is padding.
        position_mm: Coordinate of each slice's middle along the body axis that the slices follow, as RAS+ counts
            (for axial slices: millimetres toward the head).

    **Shape:**
        - source, stored, position_mm: ``(D,)``.
    """

    source: NDArray[np.int64]
    stored: NDArray[np.int64]
    position_mm: NDArray[np.float64]

    @classmethod
    def of(cls, volume: Volume, preset: CTPreset) -> SlicePlaces:
        """Return the places for a volume that was loaded.

        Args:
            volume: In the preset's orientation.
            preset: What it is brought to.

        Example:
            >>> import numpy as np
            >>> from ct_vlm.transforms import CTPreset, Volume
            >>> from ct_vlm.transforms.orientation import affine_from_spacing
            >>> from ct_vlm.transforms.slice_places import SlicePlaces
            >>> array, affine = np.zeros((6, 4, 4), np.int16), affine_from_spacing((5, 1, 1), "IPL")
            >>> places = SlicePlaces.of(Volume(array, (5, 1, 1), affine), CTPreset("half", size=(3, 4, 4)))
            >>> places.source.tolist(), places.position_mm.tolist()
            ([1, 3, 5], [-2.5, -12.5, -22.5])
        """
        # a volume without a file is numbered as its array is
        stored = volume.provenance.axcodes if volume.provenance.path else volume.axcodes
        return slice_places(preset.plan(volume), volume.affine, volume.shape, preset.crop_pad, stored)


def slice_places(
    plan: GeometryPlan,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    crop_pad: str,
    stored_axcodes: Sequence[str],
) -> SlicePlaces:
    """Return where the slices of a planned volume lie.

    The slice that is named is the one that the nearest-voxel rule takes for label maps.

    Args:
        plan: From the volume to the preset's grid.
        affine: Of the volume, in the preset's orientation.
        shape: Of the volume.
        crop_pad: As in the preset.
        stored_axcodes: Directions of the axes of the file.
    """
    start, length = (0, shape[0]) if plan.box is None else (plan.box[0].start, plan.box[0].stop - plan.box[0].start)
    cut, fill, kept = crop_window(plan.resized[0], plan.size[0], crop_pad)
    index = np.arange(plan.size[0])
    source = np.full(plan.size[0], -1)
    source[fill : fill + kept] = start + nearest_index(length, plan.resized[0])[cut : cut + kept]
    code = axcodes_of(affine)[0]
    stored = source if code in tuple(stored_axcodes) else np.where(source < 0, -1, shape[0] - 1 - source)
    middle = [(length - 1) / 2 for length in plan.size]
    voxels = np.stack([index, np.full(index.size, middle[1]), np.full(index.size, middle[2]), np.ones(index.size)])
    return SlicePlaces(source, stored, (plan.affine(affine, shape, crop_pad) @ voxels)[_AXES[code]])
