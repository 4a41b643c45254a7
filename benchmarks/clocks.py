"""Clocks that count the work of this process and not that of others on the machine."""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch

FLUSH = 2**28
"""Bytes written between calls on a GPU; more than any second-level cache holds."""


class Clock(Protocol):
    """A clock that work may run ahead of."""

    name: str

    def settle(self) -> None:
        """Bring the device into the state in which every call starts."""

    def mark(self) -> Any:
        """Return the present moment, as the device sees it."""

    def between(self, start: Any, end: Any) -> float:
        """Return the milliseconds between two marks."""


class CPUClock:
    """Processor time of all threads of the process."""

    name = "process CPU time"

    def settle(self) -> None:
        """Do nothing: caches are as the provider before left them, for all alike."""

    def mark(self) -> int:
        """Return nanoseconds."""
        return time.process_time_ns()

    def between(self, start: int, end: int) -> float:
        """Return milliseconds."""
        return (end - start) / 1e6


class CUDAClock:
    """Events in the stream of a GPU."""

    name = "CUDA events"

    def __init__(self, device: str | torch.device = "cuda") -> None:
        self._flush = torch.empty(FLUSH, dtype=torch.uint8, device=device)

    def settle(self) -> None:
        """Drive inputs out of the cache; launches of the call to be timed hide behind this write."""
        torch.cuda.synchronize()
        self._flush.zero_()

    def mark(self) -> torch.cuda.Event:
        """Record an event."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Wait for the later event and return milliseconds."""
        end.synchronize()
        return float(start.elapsed_time(end))


def make_clock(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return CUDAClock(device) if device.type == "cuda" else CPUClock()
