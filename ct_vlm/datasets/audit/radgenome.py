"""The audit of a RadGenome-ChestCT tree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.examine import check_folders, check_patients, count_volumes, examine_volumes
from ct_vlm.datasets.audit.layouts import bases, is_folder, volume_folders
from ct_vlm.datasets.audit.masks import audit_masks
from ct_vlm.datasets.audit.radgenome_tables import RegionTables
from ct_vlm.datasets.audit.tree import list_folder
from ct_vlm.datasets.audit.volumes import find_volumes
from ct_vlm.datasets.audit.voxels import VoxelJob
from ct_vlm.datasets.layout import SPLITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.datasets.audit.context import AuditContext
    from ct_vlm.datasets.audit.volumes import VolumeFile

_ARCHIVE = re.compile(r"((?:train|valid)_(?:region|anatomy)_mask)(?:\.tar(?:\.gz)?.*|_[a-z]{2})")


def audit_radgenome(context: AuditContext) -> None:
    """Check folders, names, headers, masks and tables of RadGenome-ChestCT."""
    collector = context.collector
    check_folders(context, {"radgenome_files"})
    _check_archives(context)
    on_disk = find_volumes(volume_folders(context.root, "radgenome"), "radgenome", collector)
    count_volumes(context, "radgenome", on_disk.volumes, {"preprocessed"})
    sound = examine_volumes(context, on_disk.volumes)
    context.jobs.extend(VoxelJob(path, facts.claimed_bytes) for path, facts in sound.items())
    audit_masks(context, on_disk.volumes, sound)
    patients = on_disk.patients
    for split in SPLITS:
        tables = RegionTables(context.root, split, collector)
        tables.check()
        context.report.tables.update(tables.rows)
        patients[split] |= tables.patients
        _compare(context, tables, [volume for volume in on_disk.volumes if volume.split == split])
    check_patients(patients, collector)


def _check_archives(context: AuditContext) -> None:
    """Note archives of masks that were not unpacked, once for each that comes in parts."""
    noted: set[str] = set()
    for base in bases(context.root):
        for entry in list_folder(base, context.collector):
            match = _ARCHIVE.fullmatch(entry.name)
            if match and match[1] not in noted and not is_folder(base / match[1]):
                noted.add(match[1])
                context.collector.add("tree.packed_archive", entry.path, f"no folder {match[1]}")


def _compare(context: AuditContext, tables: RegionTables, volumes: Sequence[VolumeFile]) -> None:
    """Compare the volumes of the region reports with those on disk."""
    if tables.reported is None:
        return
    on_disk = {volume.name.volume_id for volume in volumes}
    for name in tables.reported - on_disk:
        context.collector.add("table.row_without_file", tables.files["region_report"], name)
    for volume in volumes:
        if volume.name.volume_id not in tables.reported:
            context.collector.add("table.file_without_row", volume.path, "region_report")
