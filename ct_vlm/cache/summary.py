"""What a cache holds, by preset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ct_vlm.cache.entry import read_entry
from ct_vlm.cache.errors import DamagedEntryError
from ct_vlm.cache.scanning import scan, size_of, watched

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class GroupSummary:
    """Entries of one folder of the cache, which is named after the preset.

    Args:
        entries: Number of entries.
        num_bytes: Their bytes on disk.
        array_bytes: The bytes of their arrays in memory.
        codecs: Codec to number of entries.
        damaged: Entries whose index cannot be read.
    """

    entries: int = 0
    num_bytes: int = 0
    array_bytes: int = 0
    codecs: dict[str, int] = field(default_factory=dict)
    damaged: int = 0

    @property
    def ratio(self) -> float:
        """Bytes in memory over bytes on disk; 0 without entries."""
        return self.array_bytes / self.num_bytes if self.num_bytes else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {**vars(self), "ratio": round(self.ratio, 3)}


@dataclass
class CacheSummary:
    """What :func:`summarise` counted.

    Args:
        folder: The cache.
        groups: Folder below it to what it holds.
        temporaries: Number of files that writers write or left behind.
        temporary_bytes: Their bytes.
        others: Number of files that are no entries.
    """

    folder: str
    groups: dict[str, GroupSummary] = field(default_factory=dict)
    temporaries: int = 0
    temporary_bytes: int = 0
    others: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**vars(self), "groups": {name: group.to_json() for name, group in self.groups.items()}}


def summarise(folder: str | Path, *, progress: bool = True) -> CacheSummary:
    """Count what a cache holds; only the indices of its entries are read.

    Args:
        folder: The cache.
        progress: Show a bar (on a terminal only).

    Raises:
        ConfigError: If there is no such folder.

    Example:
        >>> import tempfile, numpy as np
        >>> from ct_vlm.cache import ArrayCache, summarise
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = ArrayCache(folder).get("preset/a", {"source": 1}, lambda: {"x": np.arange(3)})
        ...     summary = summarise(folder, progress=False)
        >>> summary.groups["preset"].entries, summary.groups["preset"].array_bytes
        (1, 24)
    """
    contents = scan(folder)
    summary = CacheSummary(str(folder), temporaries=len(contents.temporaries), others=contents.others)
    summary.temporary_bytes = sum(map(size_of, contents.temporaries))
    for path in watched(contents.entries, "Counting", progress=progress):
        place = path.relative_to(folder).parts
        group = summary.groups.setdefault(place[0] if len(place) > 1 else ".", GroupSummary())
        try:
            with read_entry(path) as entry:
                group.array_bytes += entry.nbytes
                group.codecs[entry.codec] = group.codecs.get(entry.codec, 0) + 1
        except (DamagedEntryError, OSError):
            group.damaged += 1
        group.entries += 1
        group.num_bytes += size_of(path)
    return summary
