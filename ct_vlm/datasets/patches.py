"""Where to cut patches so that small structures are seen: measured class locations, then a draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def class_locations(labels: NDArray[Any], per_class: int = 2000) -> dict[str, NDArray[Any]]:
    """Return voxel positions of every class but background, at most ``per_class`` each.

    The choice among more voxels is random but fixed, and the same for equal label maps.

    Args:
        labels: Label map.
        per_class: Most positions kept of a class.

    Returns:
        ``location_class`` ``(M,)`` and ``location_index`` ``(M,)``, flat positions in C order.

    **Shape:**
        - labels: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.patches import class_locations
        >>> found = class_locations(np.array([[[0, 3], [0, 3]]]))
        >>> found["location_class"].tolist(), found["location_index"].tolist()
        ([3, 3], [1, 3])
    """
    flat = labels.ravel()
    foreground = np.flatnonzero(flat)
    order = np.argsort(flat[foreground], kind="stable")
    foreground = foreground[order]
    classes, starts = np.unique(flat[foreground], return_index=True)
    generator = np.random.default_rng(0)
    kept_class, kept_index = [], []
    for value, part in zip(classes, np.split(foreground, starts)[1:], strict=True):
        chosen = part if len(part) <= per_class else np.sort(generator.choice(part, per_class, replace=False))
        kept_index.append(chosen)
        kept_class.append(np.full(len(chosen), value, dtype=np.int64))
    empty = np.empty(0, dtype=np.int64)
    return {
        "location_class": np.concatenate([empty, *kept_class]),
        "location_index": np.concatenate([empty, *kept_index]),
    }


def draw_centre(
    shape: Sequence[int],
    locations: dict[str, NDArray[Any]],
    foreground_fraction: float,
    generator: np.random.Generator,
) -> tuple[int, ...]:
    """Draw the centre of a patch.

    With the chance ``foreground_fraction`` a class that the volume holds is drawn (each alike,
    however small), and then one of its voxels; otherwise any voxel.

    Args:
        shape: Size of the volume.
        locations: From :func:`class_locations`.
        foreground_fraction: Chance of a centre on foreground.
        generator: Source of the draw.
    """
    classes = np.unique(locations["location_class"])
    if generator.random() < foreground_fraction and classes.size:
        of_class = locations["location_index"][locations["location_class"] == generator.choice(classes)]
        return tuple(int(n) for n in np.unravel_index(int(generator.choice(of_class)), tuple(shape)))
    return tuple(int(generator.integers(n)) for n in shape)


def cut_patch(array: NDArray[Any], centre: Sequence[int], size: Sequence[int], value: float) -> NDArray[Any]:
    """Cut a patch around a centre, moved inside where it would reach out; smaller volumes are filled.

    Args:
        array: Volume or label map.
        centre: Voxel in the middle.
        size: Size of the patch.
        value: What fills axes shorter than the patch.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.patches import cut_patch
        >>> cut_patch(np.arange(5).reshape(1, 1, 5), (0, 0, 4), (1, 1, 3), 0).tolist()
        [[[2, 3, 4]]]
    """
    patch = np.full(tuple(size), value, dtype=array.dtype)
    source, target = [], []
    for length, middle, wanted in zip(array.shape, centre, size, strict=True):
        taken = min(length, wanted)
        start = min(max(middle - wanted // 2, 0), length - taken)
        source.append(slice(start, start + taken))
        offset = (wanted - taken) // 2
        target.append(slice(offset, offset + taken))
    patch[tuple(target)] = array[tuple(source)]
    return patch
