"""Which volumes an index holds: those on disk and in a table, less what was excluded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.datasets.layout import parse_volume_name, scan_volumes
from ct_vlm.errors import DatasetError
from ct_vlm.transforms.metadata import volume_id

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable

    from ct_vlm.datasets.index_report import IndexReport
    from ct_vlm.datasets.layout import VolumeName


def list_volumes(folder: Path, split: str, report: IndexReport) -> dict[str, Path]:
    """Return the volumes below a folder by name.

    Args:
        folder: Folder of a split.
        split: Split that names must belong to.
        report: Takes what cannot be used, folders of patients or scans that cannot be listed among it.

    Raises:
        DatasetError: If the folder, or every folder in it, cannot be listed.
    """
    files: dict[str, Path] = {}
    try:
        entries = list(scan_volumes(folder, unreadable=report.unreadable_folders))
    except OSError as error:
        cause = f"Cannot list `{folder}`: {error}."
        raise DatasetError(cause, "Check the permissions and that the disk is mounted.") from error
    if report.unreadable_folders and not entries:
        cause = f"No folder below `{folder}` can be listed, e.g. {report.unreadable_folders[0]}."
        raise DatasetError(cause, "Check the permissions and that the disk is mounted.")
    for entry in entries:
        name = parse_volume_name(entry.name)
        if name is None or name.split != split:
            report.bad_names.append(entry.name)
        elif name.volume_id in files:
            report.duplicate_files.append(name.volume_id)
        elif (size := _size(entry)) is None:
            report.unreadable_files.append(name.volume_id)
        elif size == 0:
            report.empty_files.append(name.volume_id)
        else:
            files[name.volume_id] = Path(entry.path)
    report.files = len(files)
    return files


def match_names(
    listed: Iterable[str] | None, files: dict[str, Path] | None, split: str, report: IndexReport
) -> list[VolumeName]:
    """Return the volumes that both a table and the disk know, in order of their numbers.

    Args:
        listed: Names in the table; ``None`` without a table.
        files: Volumes on disk; ``None`` trusts the table.
        split: Split that names must belong to.
        report: Takes what only one of them knows.
    """
    known: dict[str, VolumeName] = {}
    for raw in (files or {}) if listed is None else listed:
        name = parse_volume_name(raw)
        if name is None or name.split != split:
            report.bad_names.append(raw)
        else:
            known[name.volume_id] = name
    if files is not None and listed is not None:
        present = {*files, *report.empty_files, *report.unreadable_files}
        report.rows_without_file.extend(name for name in known if name not in present)
        report.files_without_row.extend(name for name in files if name not in known)
    if files is not None:
        known = {name: value for name, value in known.items() if name in files}
    return sorted(known.values(), key=lambda name: (len(name.patient_id), name.patient_id, name.study_id, name.recon))


def drop_names(
    names: Iterable[VolumeName],
    report: IndexReport,
    patients: Collection[str] | None,
    exclude: Collection[str],
    no_chest: Collection[str] = (),
) -> list[VolumeName]:
    """Return the volumes that nothing excludes.

    Args:
        names: Volumes.
        report: Takes the others.
        patients: Patients to keep; ``None`` keeps all.
        exclude: Volume names to leave out.
        no_chest: Volumes that show no chest.
    """
    excluded = {volume_id(name) for name in exclude}
    wanted = None if patients is None else set(patients)
    kept = []
    for name in names:
        if wanted is not None and name.patient_id not in wanted:
            report.other_patients.append(name.volume_id)
        elif name.volume_id in excluded:
            report.excluded.append(name.volume_id)
        elif name.volume_id in no_chest:
            report.no_chest.append(name.volume_id)
        else:
            kept.append(name)
    return kept


def _size(entry: os.DirEntry[str]) -> int | None:
    """Return a file's size, or ``None`` where a link leads nowhere or the file cannot be reached."""
    try:
        return entry.stat().st_size
    except OSError:
        return None
