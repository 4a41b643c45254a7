"""Masks of a scan as a model reads them: one a region, on the grid of its preset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.attributes.grids import check_grid
from ct_vlm.attributes.names import plain_name
from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.transforms import Volume
from ct_vlm.transforms.orientation import reorient, spacing_of
from ct_vlm.transforms.slice_places import SlicePlaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ct_vlm.attributes import MaskSet
    from ct_vlm.text import RegionScheme
    from ct_vlm.transforms import CTPreset


@dataclass(frozen=True)
class RegionMasks:
    """The regions of one scan on a preset's grid.

    Args:
        scheme: Names of the regions and of what they are made of.
        masks: One a region; zeros where none was found.
        used: For each region the masks that were found.
        volume_ml: Size of each on the scan's own grid; None where none was found.
        places: Where the slices of the grid lie in the file and in the patient.

    **Shape:**
        - masks: ``(R, D, H, W)`` uint8.
    """

    scheme: RegionScheme
    masks: NDArray[np.uint8]
    used: tuple[tuple[str, ...], ...]
    volume_ml: tuple[float | None, ...]
    places: SlicePlaces


def region_masks(
    volume: Volume, masks: MaskSet, scheme: RegionScheme, preset: CTPreset, *, method: str = "nearest"
) -> RegionMasks:
    """Bring the masks of a scan's regions onto a preset's grid, as data sets do.

    A region without a mask is a mask of zeros, and its ``used`` is empty; nothing else ever stands in for it.

    Args:
        volume: The scan, in any orientation.
        masks: On the scan's own grid.
        scheme: The regions, and the names of the masks that each is the union of; case and underscores
            do not matter.
        preset: The grid.
        method: ``nearest`` or ``majority``, see :meth:`ct_vlm.transforms.CTPreset.resample_labels`.

    Raises:
        DatasetError: If the masks lie on another grid, or there is none of any region.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes import MaskSet
        >>> from ct_vlm.models.mask_inputs import region_masks
        >>> from ct_vlm.text import region_scheme
        >>> from ct_vlm.transforms import CTPreset, Volume
        >>> from ct_vlm.transforms.orientation import affine_from_spacing
        >>> affine = affine_from_spacing((5, 1, 1), "IPL")
        >>> volume = Volume(np.zeros((4, 6, 6), np.int16), (5, 1, 1), affine)
        >>> masks = MaskSet({"Heart": np.ones((4, 6, 6), bool)}, affine=affine)
        >>> found = region_masks(volume, masks, region_scheme("six"), CTPreset("half", size=(2, 3, 3)))
        >>> found.masks.shape, found.masks.sum(axis=(1, 2, 3)).tolist(), found.used[3]
        ((6, 2, 3, 3), [0, 0, 0, 18, 0, 0], ('Heart',))
    """
    canonical = oriented(volume, CANONICAL_AXCODES)
    check_grid(Path(masks.provenance.source), (masks.shape, masks.affine), (canonical.shape, canonical.affine))
    turned = oriented(volume, preset.axcodes)
    names = [find_names(masks.names, scheme.masked(index)) for index in range(len(scheme.names))]
    if not any(names):
        cause = (
            f"`{masks.provenance.source}` has no mask of {', '.join(scheme.all_members)}; it has {_some(masks.names)}."
        )
        raise DatasetError(cause, "Name the masks that each region is the union of: `regions={...}`.")
    arrays, sizes = [], []
    for found in names:
        whole = union(masks, found)
        sizes.append(float(np.count_nonzero(whole)) * masks.voxel_ml if found else None)
        moved = reorient(whole.view(np.uint8), masks.affine, preset.axcodes)[0]
        arrays.append(preset.resample_labels(moved, turned, method=method))  # type: ignore[arg-type]
    places = SlicePlaces.of(turned, preset)
    return RegionMasks(scheme, np.stack(arrays), tuple(names), tuple(sizes), places)


def union(masks: MaskSet, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return the union of some masks; zeros for none.

    Args:
        masks: The masks.
        names: Some of their names.

    **Shape:**
        - output: ``(D, H, W)``.
    """
    result = np.zeros(masks.shape, dtype=bool)
    for name in names:
        result |= masks[name]
    return result


def find_names(have: Sequence[str], members: Sequence[str]) -> tuple[str, ...]:
    """Return the masks that a region is the union of, in the order of its members.

    Args:
        have: Names of masks.
        members: Names that are looked for; case and underscores do not matter.

    Example:
        >>> from ct_vlm.models.mask_inputs import find_names
        >>> find_names(["Lung", "trachea_and_bronchie"], ["lung", "pleura", "trachea and bronchie"])
        ('Lung', 'trachea_and_bronchie')
    """
    spelled = {plain_name(name): name for name in reversed(have)}
    found = (member if member in have else spelled.get(plain_name(member)) for member in members)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def oriented(volume: Volume, axcodes: Sequence[str]) -> Volume:
    """Return a volume with its axes in other directions; itself where they are so already.

    Args:
        volume: The scan.
        axcodes: Direction of each axis of the result.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.models.mask_inputs import oriented
        >>> from ct_vlm.transforms import Volume
        >>> from ct_vlm.transforms.orientation import affine_from_spacing
        >>> volume = Volume(np.zeros((2, 3, 4), np.int16), (5, 1, 1), affine_from_spacing((5, 1, 1), "IPL"))
        >>> oriented(volume, ("S", "L", "P")).shape
        (2, 4, 3)
    """
    first, second, third = axcodes
    if volume.axcodes == (first, second, third):
        return volume
    array, affine = reorient(volume.array, volume.affine, axcodes)
    return Volume(array, spacing_of(affine), affine, volume.provenance, (first, second, third))


def with_own_grid(volume: Any) -> str | Path | Volume:
    """Return a scan that has a grid of its own.

    Args:
        volume: A file, a loaded volume or anything else.

    Raises:
        ConfigError: If it is anything else, e.g. a bare tensor.
    """
    if isinstance(volume, str | Path | Volume):
        return volume
    cause = f"Masks belong to the scan's own grid, but the scan is a {type(volume).__name__}."
    raise ConfigError(cause, "Pass a file or a `Volume`; for tensors, put `region_masks` into a batch.")


def _some(names: Sequence[str]) -> str:
    """Return a few names."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
