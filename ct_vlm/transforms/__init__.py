"""Volumes: reading, HU checks, orientation, resampling, windows, presets and augmentation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.transforms.augment import FlipSafeAugmentation
    from ct_vlm.transforms.ct_video import frames_to_hu, hu_to_frames
    from ct_vlm.transforms.film_errors import FilmError, film_error
    from ct_vlm.transforms.frame_sampling import FrameSampling
    from ct_vlm.transforms.hu import check_hu
    from ct_vlm.transforms.load import load_label_map, load_volume
    from ct_vlm.transforms.metadata import ScanMetadata
    from ct_vlm.transforms.mp4 import read_mp4, write_mp4
    from ct_vlm.transforms.on_grid import load_on_grid
    from ct_vlm.transforms.presets import CTPreset, get_preset, list_presets
    from ct_vlm.transforms.slab_views import SlabViews
    from ct_vlm.transforms.volume import Provenance, Volume
    from ct_vlm.transforms.windowing import apply_windows

_MODULES = {
    "CTPreset": "presets",
    "FilmError": "film_errors",
    "FlipSafeAugmentation": "augment",
    "FrameSampling": "frame_sampling",
    "Provenance": "volume",
    "ScanMetadata": "metadata",
    "SlabViews": "slab_views",
    "Volume": "volume",
    "apply_windows": "windowing",
    "check_hu": "hu",
    "film_error": "film_errors",
    "frames_to_hu": "ct_video",
    "get_preset": "presets",
    "hu_to_frames": "ct_video",
    "list_presets": "presets",
    "load_label_map": "load",
    "load_on_grid": "on_grid",
    "load_volume": "load",
    "read_mp4": "mp4",
    "write_mp4": "mp4",
}

__all__ = [
    "CTPreset",
    "FilmError",
    "FlipSafeAugmentation",
    "FrameSampling",
    "Provenance",
    "ScanMetadata",
    "SlabViews",
    "Volume",
    "apply_windows",
    "check_hu",
    "film_error",
    "frames_to_hu",
    "get_preset",
    "hu_to_frames",
    "list_presets",
    "load_label_map",
    "load_on_grid",
    "load_volume",
    "read_mp4",
    "write_mp4",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
