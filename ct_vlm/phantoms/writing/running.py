"""What the writers of phantom trees share: the tree, the pool of processes and the progress bar."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ct_vlm.errors import DatasetError
from ct_vlm.phantoms.writing.manifest import MANIFEST_NAME, PhantomManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ct_vlm.phantoms.writing.manifest import VolumeRecord

T = TypeVar("T")


def open_tree(root: Path, layout: str, arguments: dict[str, Any]) -> PhantomManifest:
    """Start a tree, or take up one that the same arguments started.

    Args:
        root: Directory of the tree.
        layout: Name of its layout.
        arguments: What the writer was called with, as JSON values.

    Raises:
        DatasetError: If the directory holds something else.
    """
    if root.exists() and not root.is_dir():
        cause = f"`{root}` is a file."
        raise DatasetError(cause, "Pass a directory.")
    if (root / MANIFEST_NAME).exists():
        manifest = PhantomManifest.load(root)
        if manifest.layout == layout and manifest.arguments == arguments:
            return manifest
        changed = sorted(k for k, v in arguments.items() if manifest.arguments.get(k) != v) or ["layout"]
        cause = f"`{root}` holds phantoms of other arguments; these differ: {', '.join(changed)}."
        raise DatasetError(cause, "Pass the same arguments to resume, or a new directory.")
    if root.exists() and any(root.iterdir()):
        cause = f"`{root}` is not empty and holds no phantoms."
        raise DatasetError(cause, "Pass a new or an empty directory.")
    root.mkdir(parents=True, exist_ok=True)
    manifest = PhantomManifest(root, layout, arguments)
    manifest.save()
    return manifest


def run_jobs(
    jobs: Sequence[T], write: Callable[[T], VolumeRecord], workers: int | None, progress: bool
) -> list[VolumeRecord]:
    """Run every job, in this process or in a pool, in order.

    Args:
        jobs: One a volume.
        write: Writes what is missing of a volume and returns its facts.
        workers: Number of processes; 0 works in this process, None takes one a core.
        progress: Show a progress bar on a terminal.
    """
    number = (os.cpu_count() or 1) if workers is None else workers
    number = min(number, len(jobs))
    with _progress(len(jobs), progress) as advance:
        records = []
        if number <= 1:
            for job in jobs:
                records.append(write(job))
                advance()
            return records
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        with ProcessPoolExecutor(number, mp_context=multiprocessing.get_context(method)) as pool:
            for record in pool.map(write, jobs, chunksize=max(1, min(8, len(jobs) // (4 * number)))):
                records.append(record)
                advance()
        return records


@contextmanager
def _progress(total: int, show: bool) -> Iterator[Any]:
    """Yield a function that advances a progress bar, which only a terminal shows."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task("phantoms", total=total)
        yield lambda: bar.advance(task)
