"""How fast workers are over a list of files: what scaling is measured with."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cache import ArrayCache
from ct_vlm.datasets.layout import VolumeName
from ct_vlm.datasets.preprocessing.pool import WorkerPool
from ct_vlm.datasets.preprocessing.work import Setup, preprocess_one
from ct_vlm.datasets.sample import Sample
from ct_vlm.errors import DatasetError
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.datasets.preprocessing.outcome import Outcome
    from ct_vlm.transforms import CTPreset


@dataclass(frozen=True)
class WorkerTiming:
    """What :func:`time_workers` measured, without the start of the processes.

    Args:
        workers: Number of processes (0: the calling one).
        volumes: Number of files.
        wall_seconds: From the first file handed out to the last finished.
        cpu_seconds: Of all workers together.
        source_bytes: Read.
        entry_bytes: Written.

    Example:
        >>> from ct_vlm.datasets.preprocessing import WorkerTiming
        >>> one, two = WorkerTiming(1, 8, 4.0, 4.0, 0, 0), WorkerTiming(2, 8, 2.5, 4.4, 0, 0)
        >>> two.efficiency(one)
        0.8
    """

    workers: int
    volumes: int
    wall_seconds: float
    cpu_seconds: float
    source_bytes: int
    entry_bytes: int

    def efficiency(self, single: WorkerTiming) -> float:
        """Return the speed-up over one process, divided by the number of processes.

        Args:
            single: The timing of one process over the same files.
        """
        return single.wall_seconds / self.wall_seconds / max(1, self.workers)


def time_workers(
    files: Sequence[str | Path],
    workers: int,
    preset: str | CTPreset | Mapping[str, Any],
    *,
    hu_source: str = "auto",
    cache_dir: str | Path | None = None,
) -> WorkerTiming:
    """Preprocess files into an empty cache and return wall and CPU seconds.

    Args:
        files: Volumes, whatever their names.
        workers: Processes; 0 works in this one.
        preset: Preprocessing.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        cache_dir: Below it a folder is made for the entries, and removed; the system's temporary folder by default.

    Raises:
        DatasetError: If a file cannot be preprocessed.
    """
    samples = [sample_of_file(Path(file), number) for number, file in enumerate(files)]
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        setup = Setup(get_preset(preset), hu_source, ArrayCache(folder))
        if workers == 0:
            started = time.perf_counter()
            outcomes = [preprocess_one(sample, setup) for sample in samples]
            wall = time.perf_counter() - started
        else:
            with WorkerPool(setup, workers) as pool:
                pool.start()
                started = time.perf_counter()
                outcomes = list(pool.run(samples))
                wall = time.perf_counter() - started
    require_made(outcomes)
    return WorkerTiming(
        workers=workers,
        volumes=len(samples),
        wall_seconds=wall,
        cpu_seconds=sum(outcome.cpu_seconds for outcome in outcomes),
        source_bytes=sum(outcome.source_bytes for outcome in outcomes),
        entry_bytes=sum(outcome.entry_bytes for outcome in outcomes),
    )


def sample_of_file(path: Path, number: int) -> Sample:
    """Return a sample of any file; the number keeps files of one name apart."""
    name = f"{path.name.split('.')[0]}-{number}"
    return Sample(VolumeName(name, name, name, "train", 1), path)


def require_made(outcomes: Sequence[Outcome]) -> None:
    """Raise if a volume was not made.

    Raises:
        DatasetError: Naming the first that failed.
    """
    for outcome in outcomes:
        if outcome.failure is not None:
            raise DatasetError(outcome.failure.cause, outcome.failure.cure)
