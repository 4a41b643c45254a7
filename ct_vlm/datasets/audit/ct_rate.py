"""The audit of a CT-RATE tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.ct_rate_tables import SplitTables
from ct_vlm.datasets.audit.examine import check_folders, check_patients, count_volumes, examine_volumes
from ct_vlm.datasets.audit.geometry_checks import best_spacing
from ct_vlm.datasets.audit.layouts import volume_folders
from ct_vlm.datasets.audit.volumes import VolumeFile, check_versions, find_volumes
from ct_vlm.datasets.audit.voxels import VoxelJob
from ct_vlm.datasets.layout import SPLITS, CTRateLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.datasets.audit.context import AuditContext
    from ct_vlm.datasets.audit.ct_rate_tables import MetadataRow
    from ct_vlm.datasets.audit.headers import HeaderFacts

_TOLERANCE = 0.02  # share by which voxel sizes may differ: tables and headers round differently (inferred)


def audit_ct_rate(context: AuditContext) -> None:
    """Check folders, names, headers and tables of CT-RATE."""
    collector = context.collector
    check_folders(context, {"radiology_text_reports", "multi_abnormality_labels", "metadata"})
    folders = volume_folders(context.root, "ct_rate")
    on_disk = find_volumes(folders, "ct_rate", collector)
    check_versions(on_disk.volumes, collector)
    count_volumes(context, "ct_rate", on_disk.volumes, {"v1", "v2"})
    sound = examine_volumes(context, on_disk.volumes)
    patients = on_disk.patients
    layout = CTRateLayout(context.root)
    for split in SPLITS:
        tables = SplitTables(layout, split, collector)
        tables.check()
        context.report.tables.update(tables.rows)
        patients[split] |= tables.patients
        volumes = [volume for volume in on_disk.volumes if volume.split == split]
        _compare(context, tables, volumes)
        for volume in volumes:
            if volume.path in sound:
                row = tables.metadata.get(volume.name.volume_id)
                _compare_header(context, volume, sound[volume.path], row)
                context.jobs.append(_job(volume, sound[volume.path].claimed_bytes, row))
    check_patients(patients, collector)


def _compare(context: AuditContext, tables: SplitTables, volumes: Sequence[VolumeFile]) -> None:
    """Compare what tables list with what is on disk."""
    collector = context.collector
    on_disk = {volume.name.volume_id for volume in volumes}
    missing: dict[str, list[str]] = {}
    for kind, names in tables.names.items():
        for name in names - on_disk:
            missing.setdefault(name, []).append(kind)
        for volume in volumes:
            if volume.name.volume_id not in names:
                collector.add("table.file_without_row", volume.path, kind)
    for name, kinds in missing.items():
        collector.add("table.row_without_file", tables.files[kinds[0]], f"{name}: {', '.join(kinds)}")
    for volume in volumes:
        name = volume.name.volume_id
        if name in tables.no_chest:
            collector.add("no_chest.listed", volume.path)
        if volume.release == "v1" and name not in tables.metadata:
            collector.add("metadata.v1_without_row", volume.path)


def _compare_header(context: AuditContext, volume: VolumeFile, facts: HeaderFacts, row: MetadataRow | None) -> None:
    """Compare a header with the metadata row of its volume."""
    if row is None:
        return
    if row.size is not None and row.size != facts.shape:
        context.collector.add("header.size_mismatch", volume.path, f"header {facts.shape}, table {row.size}")
    spacing = best_spacing(facts)
    # NaN, where the table is blank or the header says nothing, compares as False
    if volume.release == "v2" and any(
        abs(held - listed) > _TOLERANCE * listed for held, listed in zip(spacing, row.spacing, strict=True)
    ):
        texts = [", ".join(f"{size:g}" for size in sizes) for sizes in (spacing, row.spacing)]
        context.collector.add("header.spacing_mismatch", volume.path, f"header {texts[0]} mm, table {texts[1]} mm")


def _job(volume: VolumeFile, claimed: int, row: MetadataRow | None) -> VoxelJob:
    """Return how a volume's values become HU."""
    if volume.release == "v2":
        return VoxelJob(volume.path, claimed)
    if row is None or row.slope is None or row.intercept is None:
        return VoxelJob(volume.path, claimed, slope=None)
    return VoxelJob(volume.path, claimed, slope=row.slope, intercept=row.intercept)
