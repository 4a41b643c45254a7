"""Peak memory of a process and its children."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Self


class PeakMemory:
    """Sample the memory of this process and its children while a block runs.

    Where the kernel tells proportional set sizes, pages that processes share count once;
    elsewhere the peak is this process's own.

    Args:
        interval_s: Seconds between samples.

    Example:
        >>> from ct_vlm.cli.demo.memory import PeakMemory
        >>> with PeakMemory() as memory:
        ...     _ = bytearray(1 << 20)
        >>> memory.peak_mb > 1
        True
    """

    def __init__(self, interval_s: float = 2.0) -> None:
        self.peak_mb = 0.0
        self._interval = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Start sampling."""
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling after one last sample."""
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        total = sum(_resident_kb(pid) for pid in _family(os.getpid()))
        if total == 0:
            total = _own_peak_kb()
        self.peak_mb = max(self.peak_mb, total / 1024)


def _family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:  # a process that ended meanwhile
                continue
    return found


def _resident_kb(pid: int) -> int:
    """Return the proportional set size of a process in KiB; 0 if it cannot be read."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0


def _own_peak_kb() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
