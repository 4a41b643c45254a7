"""How many workers a machine, a container or a job may run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ct_vlm.errors import ConfigError

MEMORY_PER_WORKER = 1.0
"""GiB that a worker is taken to need at its peak.

Volumes that are read slice by slice took 0.13 to 0.22 GiB (512x512x300 and 1024x1024x600; `uvlm` and `ct_clip`). The
margin is inferred: the few that must be held whole take 0.3 GiB (512x512x600) or 1.2 GiB (1024x1024x600) as int16.
"""
_GIB = 2**30
_UNLIMITED = 2**60  # version 1 of control groups states "no limit" as a huge number


@dataclass(frozen=True)
class WorkerPlan:
    """How many workers, and why.

    Args:
        workers: Their number.
        cores: Cores that this process may use.
        memory: GiB that are free for it; ``None`` if unknown.
        memory_per_worker: GiB that each is taken to need.

    Example:
        >>> from ct_vlm.datasets.preprocessing import WorkerPlan
        >>> print(WorkerPlan(8, 16, 8.5, 1.0))
        8 workers (16 cores, 8.5 GiB free, 1 GiB a worker)
    """

    workers: int
    cores: int
    memory: float | None
    memory_per_worker: float

    def __str__(self) -> str:
        """Return one line that says what decides."""
        memory = "memory unknown" if self.memory is None else f"{self.memory:.1f} GiB free"
        if self.workers == 0:
            return "this process alone"
        noun = "worker" if self.workers == 1 else "workers"
        return f"{self.workers} {noun} ({self.cores} cores, {memory}, {self.memory_per_worker:g} GiB a worker)"


def plan_workers(
    workers: int | Literal["auto"] = "auto",
    memory_per_worker: float = MEMORY_PER_WORKER,
    *,
    proc: Path = Path("/proc"),
    groups: Path = Path("/sys/fs/cgroup"),
) -> WorkerPlan:
    """Return how many workers to run: one a core, but no more than fit into memory.

    Affinity and control groups count, so containers and batch jobs get what they were given.

    Args:
        workers: ``auto``, or a number that is taken as it is (0 works in the calling process).
        memory_per_worker: GiB at a worker's peak.
        proc: The kernel's process information.
        groups: The root of the control groups.

    Raises:
        ConfigError: If a number is out of range.

    Example:
        >>> from ct_vlm.datasets.preprocessing import plan_workers
        >>> plan_workers("auto", memory_per_worker=0.001).workers >= 1
        True
    """
    if (workers != "auto" and workers < 0) or not memory_per_worker > 0:
        given = f"{workers} and {memory_per_worker}"
        cause = f"Expected `workers` of at least 0 and `memory_per_worker` above 0, but got {given}."
        raise ConfigError(cause, "Use `auto` to take every core.")
    folders = _group_folders(proc, groups)
    cores = _cores(folders, groups)
    memory = _memory(proc, folders, groups)
    count: int | None = None if workers == "auto" else workers
    if count is None:
        fitting = cores if memory is None else int(memory / memory_per_worker)
        count = max(1, min(cores, fitting))
    return WorkerPlan(count, cores, memory, memory_per_worker)


def _cores(folders: list[Path], groups: Path) -> int:
    """Return the cores that affinity and quotas leave."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = []
    for folder in folders:
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quotas.append((quota, period))
    quotas.append((_read(groups / "cpu/cpu.cfs_quota_us"), _read(groups / "cpu/cpu.cfs_period_us")))
    limits = [int(quota) / int(period) for quota, period in quotas if quota.isdecimal() and period.isdecimal()]
    return max(1, math.floor(min([usable, *limits])))


def _memory(proc: Path, folders: list[Path], groups: Path) -> float | None:
    """Return the GiB that machine and control groups leave."""
    lines = _read(proc / "meminfo").splitlines()
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    used_and_limit = [(folder / "memory.current", folder / "memory.max") for folder in folders]
    first = groups / "memory"
    used_and_limit.append((first / "memory.usage_in_bytes", first / "memory.limit_in_bytes"))
    for used, limit in used_and_limit:
        used_text, limit_text = _read(used), _read(limit)
        if used_text.isdecimal() and limit_text.isdecimal() and int(limit_text) < _UNLIMITED:
            free.append(max(0, int(limit_text) - int(used_text) + _file_pages(used.parent)))
    return min(free) / _GIB if free else None


def _file_pages(folder: Path) -> int:
    """Return the bytes of cached files in a control group: they count as used, but are given up when needed."""
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file" and value.isdecimal():
            return int(value)
    return 0


def _group_folders(proc: Path, groups: Path) -> list[Path]:
    """Return the folders of this process's control group and of those above it."""
    lines = [line.partition("::") for line in _read(proc / "self/cgroup").splitlines()]
    inner = next((path for number, mark, path in lines if number == "0" and mark), "/")
    folder = groups / inner.strip("/")
    chain = [folder, *folder.parents]
    return chain[: chain.index(groups) + 1] if groups in chain else [groups]


def _read(path: Path) -> str:
    """Return a small file's text, empty if there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
