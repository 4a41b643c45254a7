"""Whether volumes are mirrored in training: texts from files are not mirrored with them."""

from __future__ import annotations

from typing import Any


def flips(data: Any) -> bool:
    """Tell whether a data module, or one that it wraps, exchanges left and right.

    Args:
        data: Any data module; those that wrap another one hold it as ``data``.

    Example:
        >>> from ct_vlm.datamodules import CTRateDataModule
        >>> from ct_vlm.datamodules.flips import flips
        >>> from ct_vlm.transforms import FlipSafeAugmentation
        >>> flips(CTRateDataModule("phantoms", "phantom"))
        False
        >>> flips(CTRateDataModule("phantoms", "phantom", augment=FlipSafeAugmentation(flip_probability=0.5)))
        True
    """
    while data is not None:
        if getattr(getattr(data, "augment", None), "flip_probability", 0) > 0:
            return True
        data = getattr(data, "data", None)
    return False
