"""Volumes: reading, HU checks, orientation, resampling, windows, presets and augmentation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.transforms.augment import FlipSafeAugmentation
    from ct_vlm.transforms.frame_sampling import FrameSampling
    from ct_vlm.transforms.hu import check_hu
    from ct_vlm.transforms.load import load_label_map, load_volume
    from ct_vlm.transforms.metadata import ScanMetadata
    from ct_vlm.transforms.on_grid import load_on_grid
    from ct_vlm.transforms.presets import CTPreset, get_preset, list_presets
    from ct_vlm.transforms.slab_views import SlabViews
    from ct_vlm.transforms.volume import Provenance, Volume
    from ct_vlm.transforms.windowing import apply_windows

_MODULES = {
    "CTPreset": "presets",
    "FlipSafeAugmentation": "augment",
    "FrameSampling": "frame_sampling",
    "Provenance": "volume",
    "ScanMetadata": "metadata",
    "SlabViews": "slab_views",
    "Volume": "volume",
    "apply_windows": "windowing",
    "check_hu": "hu",
    "get_preset": "presets",
    "list_presets": "presets",
    "load_label_map": "load",
    "load_on_grid": "on_grid",
    "load_volume": "load",
}

__all__ = [
    "CTPreset",
    "FlipSafeAugmentation",
    "FrameSampling",
    "Provenance",
    "ScanMetadata",
    "SlabViews",
    "Volume",
    "apply_windows",
    "check_hu",
    "get_preset",
    "list_presets",
    "load_label_map",
    "load_on_grid",
    "load_volume",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
