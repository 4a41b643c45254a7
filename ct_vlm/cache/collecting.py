"""Removing what a cache no longer needs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ct_vlm.cache.entry import is_ours, read_entry
from ct_vlm.cache.errors import DamagedEntryError
from ct_vlm.cache.identity import find_sources, source_state
from ct_vlm.cache.scanning import scan, size_of, watched

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RECORDED_SOURCE = "recorded_source"
"""Key of an entry's ``meta`` for a source without which the entry is still of use."""


@dataclass
class CollectResult:
    """What :func:`collect` removed, or would.

    Args:
        removed: File to why it was removed.
        freed: Their bytes.
        kept: Number of entries that stay.
        kept_bytes: Their bytes.
        unreachable: Entries that stay because their source's folder is missing too.
        damaged: Entries whose index cannot be read; they stay until they are asked for, or
            ``verify`` deletes them.
        failed: File to why it could not be removed.
    """

    removed: dict[str, str] = field(default_factory=dict)
    freed: int = 0
    kept: int = 0
    kept_bytes: int = 0
    unreachable: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def collect(
    folder: str | Path,
    *,
    max_bytes: int | None = None,
    temporary_age: float = 3600.0,
    dry_run: bool = False,
    progress: bool = True,
) -> CollectResult:
    """Remove leftovers of killed writers and entries whose source is gone or changed.

    A source is gone if its folder is there and the file is not. A folder that is missing too may be
    a disk that is not mounted, so such entries stay. Only files that start as cache entries do are
    ever removed.

    Args:
        folder: The cache.
        max_bytes: Then remove entries by their last use (to the day), oldest first, until the
            rest is no larger.
        temporary_age: Seconds since a temporary file was last written, in either direction of the
            clock, from which on it is a leftover, unless a living process holds it.
        dry_run: Only tell what would be removed.
        progress: Show a bar (on a terminal only).

    Raises:
        ConfigError: If there is no such folder.

    Example:
        >>> import pathlib, tempfile, numpy as np
        >>> from ct_vlm.cache import ArrayCache, collect, source_identity
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scan = pathlib.Path(folder, "scan.nii.gz")
        ...     _ = scan.write_bytes(b"voxels")
        ...     key = {"source": source_identity(scan)}
        ...     _ = ArrayCache(folder).get("a", key, lambda: {"x": np.arange(3)})
        ...     scan.unlink()
        ...     result = collect(folder, progress=False)
        >>> list(result.removed.values())
        ['its source is gone']
    """
    contents = scan(folder)
    result = CollectResult()
    for path in contents.temporaries:
        if is_leftover(path, temporary_age):
            _remove(path, "a killed writer left it", result, dry_run=dry_run)
    kept = []
    for path in watched(contents.entries, "Looking for sources", progress=progress):
        reason = _reason(path, result)
        if reason is None:
            kept.append(path)
        else:
            _remove(path, reason, result, dry_run=dry_run)
    kept = _evict(kept, max_bytes, result, dry_run=dry_run)
    result.kept, result.kept_bytes = len(kept), sum(map(size_of, kept))
    return result


def is_leftover(path: Path, age: float) -> bool:
    """Tell whether a temporary file was left behind by a writer that is no more.

    Args:
        path: The temporary file.
        age: Seconds from which on it is old.
    """
    try:
        # a file of the future comes from another machine's clock, and is as old as it is ahead
        if abs(time.time() - path.lstat().st_mtime) <= age:
            return False
    except OSError:
        return False
    return is_ours(path) and not _is_held(path)


def _is_held(path: Path) -> bool:
    """Tell whether a living process writes a file."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: its age has to do
        return False
    return False


def _reason(path: Path, result: CollectResult) -> str | None:
    """Return why an entry is to go; ``None`` if it stays."""
    try:
        with read_entry(path) as entry:
            key, recorded = entry.key, entry.meta.get(RECORDED_SOURCE)
    except FileNotFoundError:
        return None
    except (DamagedEntryError, OSError):
        result.damaged.append(str(path))
        return None
    states = {source_state(source) for source in find_sources(key)}
    if "changed" in states or "changed" in _states(recorded):
        return "its source changed"
    if "gone" in states:
        return "its source is gone"
    if "unreachable" in states:
        result.unreachable.append(str(path))
    return None


def _states(recorded: Any) -> set[str]:
    return {source_state(source) for source in find_sources(recorded)}


def _evict(paths: Iterable[Path], max_bytes: int | None, result: CollectResult, *, dry_run: bool) -> list[Path]:
    """Remove what was not used for longest until the rest fits; return the rest."""
    sizes = {path: size_of(path) for path in paths}
    total = sum(sizes.values())
    for path in sorted(sizes, key=_last_use):
        if max_bytes is None or total <= max_bytes:
            break
        if _remove(path, "it was not used for longest", result, dry_run=dry_run):
            total -= sizes.pop(path)
    return list(sizes)


def _last_use(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path, reason: str, result: CollectResult, *, dry_run: bool) -> bool:
    """Remove a file that is ours; return whether it is gone (or would be)."""
    size = size_of(path)
    if not is_ours(path):
        return False
    if not dry_run:
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        except OSError as error:
            result.failed[str(path)] = str(error)
            return False
    result.removed[str(path)] = reason
    result.freed += size
    return True
