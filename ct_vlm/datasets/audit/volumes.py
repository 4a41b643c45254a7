"""Names and places of volume files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.tree import FileEntry, walk
from ct_vlm.datasets.layout import VolumeName, parse_volume_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ct_vlm.datasets.audit.collector import Collector
    from ct_vlm.datasets.audit.layouts import VolumeFolder

NIFTI_SUFFIXES = (".nii.gz", ".nii")
_PARTIAL = (".incomplete", ".part", ".partial", ".tmp", ".crdownload", ".aria2", ".lock")


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """A volume on disk: its name taken apart, its path, and the split and release of its folder."""

    name: VolumeName
    path: str
    split: str
    release: str


@dataclass
class VolumesOnDisk:
    """Volumes below the folders of a data set, and the patients that each split's folders name."""

    volumes: list[VolumeFile] = field(default_factory=list)
    patients: dict[str, set[str]] = field(default_factory=lambda: {"train": set(), "valid": set()})


def find_volumes(folders: Iterable[VolumeFolder], layout: str, collector: Collector) -> VolumesOnDisk:
    """Return the volumes below the folders, the first of each where there are several.

    Args:
        folders: Folders of splits and releases.
        layout: ``ct_rate`` or ``radgenome``; decides the folders that a name calls for.
        collector: Takes what is wrong with names and places.
    """
    on_disk = VolumesOnDisk()
    found: dict[tuple[str, str, str], VolumeFile] = {}
    names: dict[tuple[str, str], str] = {}
    for folder in folders:
        label = folder.path.name
        if label.startswith("validation"):
            collector.add("tree.split_folder_name", folder.path)
        if names.setdefault((folder.split, folder.release), label) != label:
            collector.add("tree.both_split_names", folder.path, f"beside {names[folder.split, folder.release]}")
        for entry in walk(folder.path, collector):
            volume = _volume(entry, folder, layout, collector)
            if volume is None:
                continue
            on_disk.patients[folder.split].add(volume.name.patient_id)
            if volume.name.split != folder.split:
                collector.add("tree.wrong_split", entry.path, f"in the folder of {folder.split!r}")
                continue
            first = found.setdefault((volume.split, volume.release, volume.name.volume_id), volume)
            if first is not volume:
                collector.add("tree.duplicate_volume", volume.path, f"first at {collector.relative(first.path)}")
    on_disk.volumes = list(found.values())
    return on_disk


def _volume(entry: FileEntry, folder: VolumeFolder, layout: str, collector: Collector) -> VolumeFile | None:
    """Return a file as a volume, or note why it is none."""
    if not entry.name.endswith(NIFTI_SUFFIXES):
        is_partial = entry.name.endswith(_PARTIAL) or entry.name.startswith(".tmp")
        collector.add("tree.partial_download" if is_partial else "tree.unexpected_file", entry.path)
        return None
    name = parse_volume_name(entry.name)
    if name is None:
        collector.add("tree.bad_name", entry.path)
        return None
    expected = expected_folders(name, layout)
    if entry.folders != expected and name.split == folder.split:
        collector.add("tree.wrong_nesting", entry.path, f"expected in {PurePath(folder.path.name, *expected)}")
    return VolumeFile(name, entry.path, folder.split, folder.release)


def expected_folders(name: VolumeName, layout: str) -> tuple[str, str]:
    """Return the two folders above a volume.

    Example:
        >>> from ct_vlm.datasets.audit.volumes import expected_folders
        >>> from ct_vlm.datasets.layout import parse_volume_name
        >>> expected_folders(parse_volume_name("train_1_a_1"), "radgenome")
        ('train_1', 'train_1a')
    """
    if layout == "ct_rate":
        return name.patient_id, name.study_id
    return name.patient_id, name.patient_id + name.study_id.rpartition("_")[2]


def check_versions(volumes: Iterable[VolumeFile], collector: Collector) -> None:
    """Note v1 volumes that have no v2 twin although others of their split do."""
    releases: dict[tuple[str, str], dict[str, str]] = {}
    for volume in volumes:
        releases.setdefault((volume.split, volume.release), {})[volume.name.volume_id] = volume.path
    for split in ("train", "valid"):
        fixed = releases.get((split, "v2"), {})
        raw = releases.get((split, "v1"), {})
        for name in sorted(raw.keys() - fixed.keys()) if fixed else ():
            collector.add("tree.mixed_versions", raw[name], "no v2 file")
