"""Peak memory is that of the call, whatever was there or was kept before."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import peak
from benchmarks.peak import extra_peak_mib
from ct_vlm.ops.memory import empty_large, release_memory

CPU = torch.device("cpu")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets its high-water mark")


def ones(mib: int) -> torch.Tensor:
    return torch.ones(mib * 2**20, dtype=torch.uint8)


@linux
def test_temporaries_count_at_their_peak() -> None:
    def call():
        total = ones(40).max()
        return total, ones(24)

    extra_peak_mib(call, CPU)
    assert extra_peak_mib(call, CPU) == pytest.approx(40, abs=8)


@linux
def test_what_was_there_before_does_not_count() -> None:
    held = ones(64)
    assert extra_peak_mib(held.max, CPU) < 8


@linux
def test_kept_buffers_count() -> None:
    release_memory()
    empty_large(48 * 2**20, dtype=torch.uint8).fill_(1)
    assert extra_peak_mib(lambda: empty_large(48 * 2**20, dtype=torch.uint8).fill_(1), CPU) == pytest.approx(48, abs=8)
    release_memory()


def test_other_systems_have_no_figure(monkeypatch) -> None:
    monkeypatch.setattr(peak.sys, "platform", "darwin")
    assert extra_peak_mib(lambda: None, CPU) is None


def test_gpu_figures_are_the_allocators(monkeypatch) -> None:
    log = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 5 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 8 * 2**20)
    assert extra_peak_mib(lambda: log.append("call"), torch.device("cuda")) == 3
    assert log == ["synchronize", "reset", "call", "synchronize"]
