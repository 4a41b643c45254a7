"""A sample's preprocessed arrays, from the cache or from its file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.datasets.cache import ArrayCache, source_identity
from ct_vlm.errors import VolumeReadError
from ct_vlm.transforms import load_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ct_vlm.datasets.sample import Sample
    from ct_vlm.transforms import CTPreset


def cache_key(sample: Sample, preset: CTPreset, hu_source: str) -> dict[str, Any]:
    """Return everything that a sample's preprocessed arrays depend on.

    Raises:
        VolumeReadError: If the file is gone.
    """
    return {
        "geometry": preset.geometry_hash(),
        "source": identity(sample.path),
        "hu_source": hu_source,
        "metadata": {name: str(value) for name, value in (sample.metadata or {}).items()},
    }


def entry_name(preset: CTPreset, volume_id: str) -> str:
    """Return the readable start of a cache entry's file name; it cannot leave the cache folder."""
    folder, file = (re.sub(r"[^\w-]+", "_", text) or "_" for text in (preset.name, volume_id))
    return f"{folder}/{file}"


def identity(path: Path) -> list[Any]:
    """Return a source file's identity.

    Raises:
        VolumeReadError: If the file is gone.
    """
    try:
        return source_identity(path)
    except OSError as error:
        cause = f"`{path}` cannot be read: {error}."
        raise VolumeReadError(cause, "Restore the file, or list its volume in `exclude`.") from error


def preprocessed(sample: Sample, preset: CTPreset, hu_source: str, cache: ArrayCache) -> dict[str, NDArray[Any]]:
    """Return ``image`` (int16 HU on the preset's grid) and ``spacing`` of a sample.

    Args:
        sample: From the index.
        preset: Preprocessing.
        hu_source: HU rule.
        cache: Where arrays are kept.

    Raises:
        VolumeError: If the file cannot be turned into HU.
    """

    def make() -> dict[str, NDArray[Any]]:
        volume = load_volume(sample.path, hu_source, metadata=sample.metadata, axcodes=preset.axcodes)
        return {"image": preset.resample(volume), "spacing": np.asarray(preset.resampled_spacing(volume))}

    return cache.get(entry_name(preset, sample.name.volume_id), cache_key(sample, preset, hu_source), make)
