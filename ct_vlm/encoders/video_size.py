"""The size that Qwen's video models resize frames to."""

from __future__ import annotations

import math
from typing import Literal

from ct_vlm.errors import ShapeError

PixelLimit = Literal["frame", "film"]
MAX_RATIO = 200


def smart_size(
    frames: int,
    height: int,
    width: int,
    *,
    factor: int,
    temporal: int,
    pixels: tuple[int, int],
    limit: PixelLimit = "frame",
) -> tuple[int, int]:
    """Return rows and columns: multiples of ``factor``, near the frame's shape, within pixel limits.

    Args:
        frames: Frames of the film.
        height: Rows of a frame.
        width: Columns of a frame.
        factor: Rows and columns of a merged token.
        temporal: Frames of a token.
        pixels: Least and largest number of pixels.
        limit: Whether they are those of a ``frame`` (Qwen2-VL, Qwen2.5-VL) or of the ``film`` (Qwen3-VL).

    Raises:
        ShapeError: If one side is more than 200 times the other.

    Example:
        >>> from ct_vlm.encoders.video_size import smart_size
        >>> smart_size(26, 480, 480, factor=28, temporal=2, pixels=(128 * 28 * 28, 768 * 28 * 28))
        (476, 476)
    """
    if limit == "film" and min(height, width) < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    if max(height, width) > MAX_RATIO * min(height, width):
        cause = f"Frames of {height} x {width} are more than {MAX_RATIO} times as long as wide."
        raise ShapeError(cause, "Crop or pad the volume to a squarer shape.")
    low, high = pixels
    counted, rounded = (frames, round(frames / temporal) * temporal) if limit == "film" else (1, 1)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rounded * rows * columns > high:
        shrink = math.sqrt(counted * height * width / high)
        height, width = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
        return height, width
    if rounded * rows * columns < low:
        grow = math.sqrt(low / (counted * height * width))
        height, width = (math.ceil(side * grow / factor) * factor for side in (height, width))
        return height, width
    return rows, columns
