"""A tiny op with providers of every kind, and rows as a run makes them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from benchmarks import ceilings, measure
from benchmarks.registry import Op
from benchmarks.rows import Row


@pytest.fixture
def calls() -> list[tuple[str, bool]]:
    """Which providers were called, and whether with gradients."""
    return []


@pytest.fixture
def fake_op(calls) -> Op:
    """Squares of four numbers: an exact provider, one that is off by a known step, one without a backward, ..."""

    def noted(name, function):
        def provider(inputs):
            calls.append((name, torch.is_grad_enabled()))
            return function(inputs["x"])

        return provider

    def no_backward(x):
        if torch.is_grad_enabled():
            msg = "no backward here\nsecond line"
            raise NotImplementedError(msg)
        return x * x

    def broken(x):
        raise RuntimeError

    module = SimpleNamespace(
        __name__="benchmarks.ops.fake",
        CASES=[{"name": "small", "size": 4}, {"name": "decode", "size": 2}],
        make_inputs=lambda case, device, dtype: {
            "x": torch.linspace(0.1, 2, case["size"], dtype=torch.float64).to(device, dtype),
            "unused": torch.ones(1, dtype=dtype),
            "label": "not a tensor",
        },
        PROVIDERS={
            "exact": noted("exact", lambda x: x * x),
            "off": noted("off", lambda x: (x * x + 0.25, x.detach())[:1]),
            "no backward": noted("no backward", no_backward),
            "other shape": noted("other shape", lambda x: (x * x)[:1]),
            "broken": noted("broken", broken),
            "inference": noted("inference", lambda x: x * x),
        },
        REFERENCE="exact",
        BASELINE="exact",
        GRADIENTS=("x", "unused"),
        TESTS="tests/fake",
        FORWARD_ONLY={"inference": "constants", "decode": "a step has no backward"},
        MISSING={"library": "not installed"},
        floor=lambda case, dtype: {"flops": case["size"], "bytes": 2 * case["size"] * dtype.itemsize},
    )
    return Op.from_module(module)


@pytest.fixture
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure ceilings on a few numbers."""
    monkeypatch.setitem(ceilings.SIDE, "cpu", 16)
    monkeypatch.setitem(ceilings.READ, "cpu", 4096)


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out weighing, for which all the memory of a test process is searched and trimmed."""
    monkeypatch.setattr(measure, "extra_peak_mib", lambda call, device: (call(), 1.0)[1])


@pytest.fixture
def row() -> Row:
    """A provider's forward pass."""
    return Row(
        date="2026-01-02T03:04:05+00:00",
        revision="0123456789ab",
        device="cpu",
        processor="a processor",
        torch="2.15.0",
        triton="",
        threads=1,
        load=0.5,
        clock="process CPU time",
        tests="passed",
        op="fake",
        case="small",
        dtype="float32",
        provider="exact",
        mode="forward",
        repeats=3,
        median_ms=2.0,
        fastest_ms=1.5,
        slowest_ms=3.0,
        ratio=1.0,
        extra_mib=4.0,
        difference=1e-7,
        reference_max=2.0,
        floor_ms=0.5,
        floor_share=0.25,
        gflops=80.0,
        gbs=17.0,
    )


@pytest.fixture
def case_rows(row) -> list[Row]:
    """Two providers of one case, forward and in full, and one that cannot run."""
    return [
        row,
        dataclasses.replace(row, mode="full", median_ms=6.0, floor_ms=None, floor_share=None),
        dataclasses.replace(row, provider="ct_vlm", median_ms=0.5, ratio=4.0, extra_mib=0.125, floor_share=1.0),
        dataclasses.replace(row, provider="ct_vlm", mode="full", median_ms=1.5, ratio=4.0, floor_share=None),
        dataclasses.replace(row, provider="peer", repeats=0, median_ms=None, floor_share=None, reason="a | b"),
    ]
