"""Masks of regions on a preset's grid, from the cache or from their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.radgenome.index import require_masks
from ct_vlm.datasets.radgenome.layout import masks_of
from ct_vlm.datasets.radgenome.masks import MaskReader, VolumeGrid, find_masks, pack_masks, unpack_masks
from ct_vlm.datasets.volumes import cache_key, entry_name, identity

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ct_vlm.cache import ArrayCache
    from ct_vlm.datasets.sample import Sample
    from ct_vlm.text import RegionScheme
    from ct_vlm.transforms import CTPreset

_MASKS = 2  # raised whenever masks come out differently, so that older entries are made again


@dataclass(frozen=True)
class MaskCache:
    """Reads masks as one array a scan; what an entry depends on is in its key.

    Args:
        folder: Folder of a split's masks.
        scheme: The regions.
        preset: The grid.
        hu_source: HU rule of the volumes.
        mismatch: ``error``, ``resample`` or ``skip``, see :class:`ct_vlm.datasets.radgenome.masks.MaskReader`.
        method: ``nearest`` or ``majority``.
        missing: ``absent`` or ``error``.
        cache: Where entries lie.
    """

    folder: Path
    scheme: RegionScheme
    preset: CTPreset
    hu_source: str
    mismatch: str
    method: str
    missing: str
    cache: ArrayCache

    def read(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """Return ``masks``, ``found``, ``stored`` and ``position_mm`` of a scan.

        Args:
            sample: The scan.

        Raises:
            DatasetError: If a mask cannot be used, or is missing and must not be.
            VolumeError: If a file cannot be read.
        """
        files = self._files(sample)

        def make() -> dict[str, NDArray[Any]]:
            grid = VolumeGrid.of(sample.path, self.preset, self.hu_source)
            reader = MaskReader(grid, self.preset, self.mismatch, self.method)
            unions = [reader.union(part) for part in files]
            masks, is_found = [mask for mask, _ in unions], [found for _, found in unions]
            return pack_masks(masks, is_found, grid.places(self.preset))

        return self.cache.read(self._name(sample), self._key(sample, files), make, unpack_masks)

    def contains(self, sample: Sample) -> bool:
        """Tell whether a scan's masks are in the cache.

        Args:
            sample: The scan.
        """
        return self.cache.contains(self.cache.path(self._name(sample), self._key(sample, self._files(sample))))

    def _files(self, sample: Sample) -> list[list[Path]]:
        """Return the files that each region is the union of."""
        parts = [self.scheme.masked(index) for index in range(len(self.scheme.names))]
        place = masks_of(self.folder, sample.name.volume_id)
        found = find_masks(place, dict.fromkeys(member for part in parts for member in part))
        if self.missing == "error":
            require_masks(found, parts, sample.name.volume_id, self.folder)
        return [[found[member] for member in part if member in found] for part in parts]

    def _key(self, sample: Sample, files: list[list[Path]]) -> dict[str, Any]:
        """Return everything that the masks depend on."""
        return {
            **cache_key(sample, self.preset, self.hu_source),
            "masks": [[identity(file) for file in part] for part in files],
            "rule": [_MASKS, self.mismatch, self.method],
        }

    def _name(self, sample: Sample) -> str:
        """Return the start of an entry's name."""
        return f"{entry_name(self.preset, sample.name.volume_id)}-masks"
