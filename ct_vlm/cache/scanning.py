"""What lies in a cache folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cache.store import SUFFIX
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TEMPORARY = ".tmp-"


@dataclass
class Contents:
    """Files of a cache folder by what their names say they are.

    Args:
        entries: Entries.
        temporaries: What writers are writing, or left behind.
        others: Number of files and links that are neither.
        unreadable: Folders that cannot be listed.
    """

    entries: list[Path] = field(default_factory=list)
    temporaries: list[Path] = field(default_factory=list)
    others: int = 0
    unreadable: list[str] = field(default_factory=list)


def scan(folder: str | Path) -> Contents:
    """Return what lies in a cache folder; links are not followed.

    Args:
        folder: The cache.

    Raises:
        ConfigError: If it is no folder.
    """
    root = Path(folder)
    if not root.is_dir():
        cause = f"`{root}` is no folder."
        raise ConfigError(cause, "Pass the folder that `cache_dir` names.")
    found = Contents()
    for parent, _, names in os.walk(root, onerror=lambda error: found.unreadable.append(str(error))):
        for name in sorted(names):
            path = Path(parent, name)
            if not name.endswith(SUFFIX) or path.is_symlink() or not path.is_file():
                found.others += 1
            elif name.startswith(_TEMPORARY):
                found.temporaries.append(path)
            else:
                found.entries.append(path)
    found.entries.sort()
    return found


def size_of(path: Path) -> int:
    """Return a file's size; 0 if it is gone."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def watched(paths: Iterable[Path], title: str, *, progress: bool) -> Iterator[Path]:
    """Yield paths under a progress bar that counts their bytes.

    Args:
        paths: The files.
        title: What is done.
        progress: Show the bar (on a terminal only).
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    sizes = [(path, size_of(path)) for path in paths]
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task(title, total=sum(size for _, size in sizes))
        for path, size in sizes:
            yield path
            bar.advance(task, size)
