"""A sample's preprocessed arrays, from the cache or from its file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ct_vlm.cache import ArrayCache, source_identity
from ct_vlm.errors import VolumeReadError
from ct_vlm.transforms import load_on_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ct_vlm.cache.regions import BasicIndex
    from ct_vlm.datasets.sample import Sample
    from ct_vlm.transforms import CTPreset


Region: TypeAlias = "Callable[[tuple[int, ...], NDArray[Any]], BasicIndex]"
"""Chooses a part of a volume by its shape and spacing."""

PREPROCESSING = 2
"""Raised whenever reading or resampling gives other voxels, so that older entries are made again."""


def cache_key(sample: Sample, preset: CTPreset, hu_source: str) -> dict[str, Any]:
    """Return everything that a sample's preprocessed arrays depend on.

    Raises:
        VolumeReadError: If the file is gone.
    """
    return {
        "preprocessing": PREPROCESSING,
        "geometry": preset.geometry_hash(),
        "source": identity(sample.path),
        "hu_source": hu_source,
        "metadata": {name: str(value) for name, value in (sample.metadata or {}).items()},
    }


def entry_name(preset: CTPreset, volume_id: str) -> str:
    """Return the readable start of a cache entry's file name; it cannot leave the cache folder."""
    folder, file = (re.sub(r"[^\w-]+", "_", text) or "_" for text in (preset.name, volume_id))
    return f"{folder}/{file}"


def identity(path: Path) -> dict[str, Any]:
    """Return a source file's identity.

    Raises:
        VolumeReadError: If the file is gone.
    """
    try:
        return source_identity(path)
    except OSError as error:
        cause = f"`{path}` cannot be read: {error}."
        raise VolumeReadError(cause, "Restore the file, or list its volume in `exclude`.") from error


def preprocessed(
    sample: Sample, preset: CTPreset, hu_source: str, cache: ArrayCache, region: BasicIndex | Region = ...
) -> dict[str, NDArray[Any]]:
    """Return ``image`` (int16 HU on the preset's grid) and ``spacing`` of a sample.

    Args:
        sample: From the index.
        preset: Preprocessing.
        hu_source: HU rule.
        cache: Where arrays are kept.
        region: Part of the image, e.g. ``numpy.s_[40:136, 100:228, 50:178]`` or one slice, or a
            function of the image's shape and spacing that returns it; of an entry in the cache
            little more is read.

    Raises:
        VolumeError: If the file cannot be turned into HU.
    """

    def make() -> dict[str, NDArray[Any]]:
        volume = load_on_grid(sample.path, preset, hu_source, metadata=sample.metadata)
        return {"image": volume.array, "spacing": np.asarray(volume.spacing)}

    def take(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        spacing = arrays["spacing"][...]
        wanted = region(arrays["image"].shape, spacing) if callable(region) else region
        image = arrays["image"][wanted]
        if wanted is not ...:
            image = np.require(image, requirements=["C", "O", "W"])  # no view that keeps a whole volume alive
        return {"image": image, "spacing": spacing}

    name = entry_name(preset, sample.name.volume_id)
    return cache.read(name, cache_key(sample, preset, hu_source), make, take)
