"""Region masks of RadGenome-ChestCT: names, presence, and the grid of their volume."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.datasets.audit.examine import read_headers
from ct_vlm.datasets.audit.geometry_checks import usable_affine
from ct_vlm.datasets.audit.layouts import SPLIT_NAMES, bases, is_folder
from ct_vlm.datasets.audit.tree import list_folder
from ct_vlm.datasets.audit.volumes import NIFTI_SUFFIXES, VolumeFile
from ct_vlm.datasets.audit.voxels import VoxelJob
from ct_vlm.datasets.grids import corner_distance
from ct_vlm.datasets.layout import SPLITS, VolumeName, parse_volume_name
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct_vlm.datasets.audit.collector import Collector
    from ct_vlm.datasets.audit.context import AuditContext
    from ct_vlm.datasets.audit.headers import HeaderFacts

_PREFIX = "seg_"
_TOLERANCE = 0.25  # voxels by which a corner of the grid may lie elsewhere (inferred)


class MaskFile(NamedTuple):
    """A mask of one region of one volume."""

    volume: str
    region: str
    path: str


def audit_masks(context: AuditContext, volumes: Sequence[VolumeFile], headers: dict[str, HeaderFacts]) -> None:
    """Check the region masks of both splits, and queue them for a deep audit.

    Args:
        context: The audit.
        volumes: Volumes on disk.
        headers: Sound headers of volumes, by path.
    """
    masks: list[MaskFile] = []
    for split in SPLITS:
        masks.extend(_find_masks(context, split, {v.name.volume_id: v for v in volumes if v.split == split}))
    grids = {v.name.volume_id: headers[v.path] for v in volumes if v.path in headers}
    regions: Counter[str] = Counter()
    for mask, facts in zip(masks, read_headers(context, [m.path for m in masks], "masks"), strict=True):
        regions[mask.region] += 1
        if facts is None:
            continue
        context.jobs.append(VoxelJob(mask.path, facts.claimed_bytes, is_mask=True))
        if mask.volume in grids:
            _compare_grids(context.collector, mask.path, facts, grids[mask.volume])
    if masks:
        context.report.regions = {region: regions[region] for region in RADGENOME_REGIONS}


def _find_masks(context: AuditContext, split: str, volumes: dict[str, VolumeFile]) -> Iterator[MaskFile]:
    """Yield the masks of a split, and note what is wrong with their folders."""
    places = [base / f"{name}_region_mask" for base in bases(context.root) for name in SPLIT_NAMES[split]]
    folders = [place for place in places if is_folder(place)]
    if not folders:
        if volumes:
            context.collector.add("mask.no_folder", places[0])
        return
    regions: dict[str, set[str]] = {}
    for folder in folders:
        for entry in list_folder(folder, context.collector):
            name = _folder_volume(entry.name, split)
            if name is None or not is_folder(Path(entry.path)):
                context.collector.add("mask.bad_folder_name", entry.path)
                continue
            if name.volume_id not in volumes:
                context.collector.add("mask.without_volume", entry.path)
            found = list(_masks_in(entry.path, name.volume_id, context.collector))
            regions.setdefault(name.volume_id, set()).update(mask.region for mask in found)
            yield from found
    for volume in volumes.values():
        _check_coverage(context.collector, volume, regions.get(volume.name.volume_id, set()))


def _folder_volume(name: str, split: str) -> VolumeName | None:
    """Return the volume of a folder `seg_train_1_a_1`, or ``None``."""
    volume = parse_volume_name(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
    return volume if volume is not None and volume.split == split else None


def _masks_in(folder: str, volume: str, collector: Collector) -> Iterator[MaskFile]:
    """Yield the masks of known regions in a folder."""
    for entry in list_folder(folder, collector):
        suffix = next((suffix for suffix in NIFTI_SUFFIXES if entry.name.endswith(suffix)), None)
        region = entry.name.removesuffix(suffix or "")
        if suffix is None:
            collector.add("tree.unexpected_file", entry.path)
        elif region not in RADGENOME_REGIONS:
            collector.add("mask.unknown_name", entry.path, region)
        else:
            yield MaskFile(volume, region, entry.path)


def _check_coverage(collector: Collector, volume: VolumeFile, regions: set[str]) -> None:
    """Note which of the ten regions have no mask."""
    missing = [region for region in RADGENOME_REGIONS if region not in regions]
    if len(missing) == len(RADGENOME_REGIONS):
        collector.add("mask.no_regions", volume.path)
    elif missing:
        collector.add("mask.missing_region", volume.path, ", ".join(missing))


def _compare_grids(collector: Collector, path: str, mask: HeaderFacts, volume: HeaderFacts) -> None:
    """Note a mask whose grid is not that of its volume."""
    if mask.shape != volume.shape:
        collector.add("mask.size_mismatch", path, f"mask {mask.shape}, volume {volume.shape}")
        return
    if mask.affine is not None and mask.affine == volume.affine:
        return
    own, other = usable_affine(mask), usable_affine(volume)
    if own is None and other is None:
        return
    if own is None or other is None:
        collector.add("mask.affine_mismatch", path, f"the {'mask' if own is None else 'volume'} has no usable affine")
        return
    away = corner_distance(volume.shape, own, other)
    if away > _TOLERANCE:
        collector.add("mask.affine_mismatch", path, f"corners lie up to {away:.1f} voxels elsewhere")
