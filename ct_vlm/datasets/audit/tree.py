"""List the files below a folder without being led astray by links."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ct_vlm.datasets.audit.collector import Collector

_MAX_DEPTH = 6


class FileEntry(NamedTuple):
    """A file below a folder: its path, and the folders between the two."""

    path: str
    name: str
    folders: tuple[str, ...]


def walk(folder: str | Path, collector: Collector) -> Iterator[FileEntry]:
    """Yield every file below a folder, in order of names.

    Links to folders are followed once; a link to a folder above, or to one that was seen, is a finding, and
    so is a folder that cannot be listed. No file is opened.

    Args:
        folder: Where to start.
        collector: Takes the findings.
    """
    seen = {os.path.realpath(folder)}
    stack: list[tuple[str, tuple[str, ...]]] = [(str(folder), ())]
    while stack:
        path, folders = stack.pop()
        try:
            with os.scandir(path) as entries:
                listed = sorted(entries, key=lambda item: item.name)
        except OSError as error:
            collector.add("tree.unreadable_folder", path, error.strerror or error)
            continue
        below: list[tuple[str, tuple[str, ...]]] = []
        for entry in listed:
            if not _is_folder(entry, collector):
                yield FileEntry(entry.path, entry.name, folders)
            elif len(folders) >= _MAX_DEPTH:
                collector.add("tree.too_deep", entry.path)
            elif not entry.is_symlink() or _is_new_target(entry, seen, collector):
                below.append((entry.path, (*folders, entry.name)))
        stack.extend(reversed(below))


def list_folder(folder: str | Path, collector: Collector) -> list[os.DirEntry[str]]:
    """Return the entries of one folder in order of names; one that cannot be listed is a finding."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda item: item.name)
    except OSError as error:
        collector.add("tree.unreadable_folder", folder, error.strerror or error)
        return []


def _is_folder(entry: os.DirEntry[str], collector: Collector) -> bool:
    """Tell whether an entry is a folder; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError as error:  # too many levels of links, or a link that may not be followed
        collector.add("tree.symlink_loop", entry.path, error.strerror or error)
        return False


def _is_new_target(entry: os.DirEntry[str], seen: set[str], collector: Collector) -> bool:
    """Tell whether a linked folder leads somewhere new, neither above the link nor seen before."""
    target = os.path.realpath(entry.path)
    above = os.path.realpath(os.path.dirname(entry.path))  # noqa: PTH120 (paths stay strings here: there are many)
    if target in seen or above == target or above.startswith(target.rstrip(os.sep) + os.sep):
        collector.add("tree.symlink_loop", entry.path, f"leads to {target}")
        return False
    seen.add(target)
    return True
