"""Reading every byte of a cache to find what a disk or a tool altered."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct_vlm.cache.entry import is_ours, read_entry
from ct_vlm.cache.errors import DamagedEntryError
from ct_vlm.cache.identity import key_digest
from ct_vlm.cache.layout import FORMAT
from ct_vlm.cache.scanning import scan, size_of, watched

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class VerifyResult:
    """What :func:`verify` found.

    Args:
        checked: Number of entries.
        num_bytes: Their bytes.
        seconds: Time it took.
        bad: Entry to what is wrong with it.
        deleted: Bad entries that were deleted.
        unreadable: Folders that cannot be listed.
    """

    checked: int = 0
    num_bytes: int = 0
    seconds: float = 0.0
    bad: dict[str, str] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def verify(folder: str | Path, *, delete_bad: bool = False, progress: bool = True) -> VerifyResult:
    """Compare every byte of every entry with its checksums.

    Args:
        folder: The cache.
        delete_bad: Delete what is damaged and still starts as an entry; it is made again when
            needed. Other files stay, whatever their names.
        progress: Show a bar (on a terminal only).

    Raises:
        ConfigError: If there is no such folder.

    Example:
        >>> import tempfile, numpy as np
        >>> from ct_vlm.cache import ArrayCache, verify
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = ArrayCache(folder).get("a", {"source": 1}, lambda: {"x": np.arange(3)})
        ...     result = verify(folder, progress=False)
        >>> result.checked, result.bad
        (1, {})
    """
    began = time.perf_counter()
    contents = scan(folder)
    result = VerifyResult(unreadable=contents.unreadable)
    for path in watched(contents.entries, "Verifying", progress=progress):
        problem = problem_of(path)
        result.checked += 1
        result.num_bytes += size_of(path)
        if problem is None:
            continue
        result.bad[str(path)] = problem
        if delete_bad and is_ours(path):
            with contextlib.suppress(OSError):
                path.unlink()
                result.deleted.append(str(path))
    result.seconds = time.perf_counter() - began
    return result


def problem_of(path: Path) -> str | None:
    """Return what is wrong with an entry; ``None`` if every byte of it is as it was written.

    Args:
        path: The entry.
    """
    try:
        with read_entry(path, fresh=True) as entry:
            if entry.key is not None and not path.stem.endswith(key_digest(entry.key, FORMAT)):
                return "it is another entry under this one's name"
            entry.check()
    except FileNotFoundError:  # removed since it was listed
        return None
    except DamagedEntryError as error:
        return error.detail
    except OSError as error:
        return f"it cannot be read: {error}"
    return None
