"""What a cache entry was made from, as JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SOURCE_KEYS = {"path", "size", "mtime_ns"}
_DIGITS = 20  # 80 bits: no two of 10^9 entries meet by chance

SourceState = Literal["same", "changed", "gone", "unreachable"]


def source_identity(path: str | Path) -> dict[str, Any]:
    """Return what tells a file's content from a later one: path, size and time of change.

    The time is compared for equality only, so clocks that are wrong or differ do no harm. The
    content is not read: hashing 50,000 scans takes longer than preprocessing half of them. Hence a
    data set that was moved, or a second copy of it, gets entries of its own; those of the old
    place are removed by ``ct-vlm cache gc``.

    Args:
        path: The file; links are resolved.

    Example:
        >>> from ct_vlm.cache import source_identity
        >>> sorted(source_identity("."))
        ['mtime_ns', 'path', 'size']
    """
    file = Path(path).resolve()
    status = file.stat()
    return {"path": str(file), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def source_state(identity: Mapping[str, Any]) -> SourceState:
    """Return what became of a source file.

    A file whose folder is missing too is ``unreachable`` rather than ``gone``: a disk that is not
    mounted must not cost its cache.

    Args:
        identity: From :func:`source_identity`.
    """
    path = Path(identity["path"])
    try:
        now = source_identity(path)
    except (OSError, RuntimeError):  # RuntimeError: a symlink loop, before Python 3.13
        try:
            return "gone" if path.parent.is_dir() and not path.is_symlink() else "unreachable"
        except OSError:
            return "unreachable"
    return "same" if now == dict(identity) else "changed"


def find_sources(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the source identities anywhere in a key."""
    if isinstance(value, dict):
        if set(value) == _SOURCE_KEYS:
            yield value
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from find_sources(item)


def key_digest(key: Mapping[str, Any], version: int) -> str:
    """Return the part of an entry's file name that stands for its key."""
    text = json.dumps({"format": version, **key}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
