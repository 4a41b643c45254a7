"""Clocks give milliseconds; the GPU's, of which there is a stand-in here, empties the cache before a call."""

from __future__ import annotations

import time
from typing import ClassVar

import torch

from benchmarks import clocks
from benchmarks.clocks import CPUClock, CUDAClock, make_clock


def test_cpu_clock_counts_the_process(monkeypatch) -> None:
    moments = iter([1_000_000, 3_500_000])
    monkeypatch.setattr(time, "process_time_ns", lambda: next(moments))
    clock = make_clock(torch.device("cpu"))
    assert isinstance(clock, CPUClock)
    clock.settle()
    start = clock.mark()
    assert clock.between(start, clock.mark()) == 2.5


class _Event:
    log: ClassVar[list[str]] = []

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.log.append("record")

    def synchronize(self) -> None:
        self.log.append("wait")

    def elapsed_time(self, end: _Event) -> float:
        return 7.0


def test_cuda_clock_waits_for_the_later_event(monkeypatch) -> None:
    monkeypatch.setattr(clocks, "FLUSH", 16)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: _Event.log.append("synchronize"))
    clock = CUDAClock("cpu")
    clock._flush.fill_(1)
    clock.settle()
    assert not clock._flush.any()
    start = clock.mark()
    assert clock.between(start, clock.mark()) == 7.0
    assert _Event.log == ["synchronize", "record", "record", "wait"]
