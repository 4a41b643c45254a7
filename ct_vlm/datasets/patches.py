"""Where to cut patches so that small structures are seen: measured class locations, then a draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ct_vlm.cache.arrays import StoredArray


def class_locations(labels: NDArray[Any], per_class: int = 2000) -> dict[str, NDArray[Any]]:
    """Return voxel positions of every class but background, at most ``per_class`` each.

    The choice among more voxels is random but fixed, and the same for equal label maps.

    Args:
        labels: Label map.
        per_class: Most positions kept of a class.

    Returns:
        ``location_class`` ``(K,)``, the ids that occur; ``location_start`` ``(K + 1,)``, where the
        positions of each start; ``location_index`` ``(M,)``, their flat positions in C order. A
        draw reads one of many positions, so they are kept apart from the ids.

    **Shape:**
        - labels: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.patches import class_locations
        >>> found = class_locations(np.array([[[0, 3], [0, 3]]]))
        >>> [found[name].tolist() for name in ("location_class", "location_start", "location_index")]
        [[3], [0, 2], [1, 3]]
    """
    flat = labels.ravel()
    foreground = np.flatnonzero(flat)
    order = np.argsort(flat[foreground], kind="stable")
    foreground = foreground[order]
    classes, starts = np.unique(flat[foreground], return_index=True)
    generator = np.random.default_rng(0)
    parts = np.split(foreground, starts)[1:]
    kept = [np.sort(generator.choice(p, per_class, replace=False)) if len(p) > per_class else p for p in parts]
    return {
        "location_class": classes.astype(np.int64),
        "location_start": np.cumsum([0, *map(len, kept)], dtype=np.int64),
        "location_index": np.concatenate([np.empty(0, dtype=np.int64), *kept]),
    }


def draw_centre(
    shape: Sequence[int],
    locations: Mapping[str, Any],
    foreground_fraction: float,
    generator: np.random.Generator,
) -> tuple[int, ...]:
    """Draw the centre of a patch.

    With the chance ``foreground_fraction`` a class that the volume holds is drawn (each alike,
    however small), and then one of its voxels; otherwise any voxel.

    Args:
        shape: Size of the volume.
        locations: From :func:`class_locations`, or a cache entry that holds them.
        foreground_fraction: Chance of a centre on foreground.
        generator: Source of the draw.
    """
    classes = locations["location_class"][...]
    if generator.random() < foreground_fraction and classes.size:
        chosen = int(generator.integers(len(classes)))
        first, last = locations["location_start"][chosen : chosen + 2].tolist()
        place = int(generator.integers(first, last))
        index = int(locations["location_index"][place : place + 1][0])
        return tuple(int(n) for n in np.unravel_index(index, tuple(shape)))
    return tuple(int(generator.integers(n)) for n in shape)


def cut_patch(
    array: NDArray[Any] | StoredArray, centre: Sequence[int], size: Sequence[int], value: float
) -> NDArray[Any]:
    """Cut a patch around a centre, moved inside where it would reach out; smaller volumes are filled.

    Args:
        array: Volume or label map, or one in a cache entry, of which no more is read.
        centre: Voxel in the middle.
        size: Size of the patch.
        value: What fills axes shorter than the patch.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.patches import cut_patch
        >>> cut_patch(np.arange(5).reshape(1, 1, 5), (0, 0, 4), (1, 1, 3), 0).tolist()
        [[[2, 3, 4]]]
    """
    source, target = [], []
    for length, middle, wanted in zip(array.shape, centre, size, strict=True):
        taken = min(length, wanted)
        start = min(max(middle - wanted // 2, 0), length - taken)
        source.append(slice(start, start + taken))
        offset = (wanted - taken) // 2
        target.append(slice(offset, offset + taken))
    part = array[tuple(source)]
    if part.shape == tuple(size):
        return np.require(part, requirements=["C", "O", "W"])  # a copy of what is a view of the volume
    patch = np.full(tuple(size), value, dtype=array.dtype)
    patch[tuple(target)] = part
    return patch
