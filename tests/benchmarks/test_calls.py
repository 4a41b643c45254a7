"""A call runs with or without gradients, starts from none, and every provider gets the same upstream ones."""

from __future__ import annotations

import pytest
import torch

from benchmarks.calls import Bench, as_tuple, why_not
from benchmarks.clocks import CPUClock


@pytest.fixture
def bench(fake_op) -> Bench:
    return Bench.of(fake_op, fake_op.make_inputs(fake_op.cases[0], "cpu", torch.float32), CPUClock())


def test_forward_is_without_gradients_and_full_with_them(fake_op, calls, bench) -> None:
    assert not bench.forward(fake_op.providers["exact"])[0].requires_grad
    assert bench.time_forward(fake_op.providers["exact"]) >= 0
    assert bench.gradients() == {}
    bench.time_full(fake_op.providers["exact"])
    assert calls == [("exact", False), ("exact", False), ("exact", True)]
    assert list(bench.gradients()) == ["x"]


def test_gradients_do_not_add_up_and_start_alike(fake_op, bench) -> None:
    found = []
    for name in ("exact", "exact", "off"):
        bench.time_full(fake_op.providers[name])
        found.append(bench.gradients()["x"])
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=0, atol=0)
    assert found[0].unique().numel() == 4
    bench.forget_gradients()
    assert bench.gradients() == {}


def test_upstream_gradients_follow_the_dtype(fake_op) -> None:
    rounded, exact = (
        Bench.of(fake_op, fake_op.make_inputs(fake_op.cases[0], "cpu", dtype), CPUClock())
        for dtype in (torch.float32, torch.float64)
    )
    for one in (rounded, exact):
        one.time_full(fake_op.providers["exact"])
    torch.testing.assert_close(rounded.gradients()["x"].double(), exact.gradients()["x"])


def test_full_times_are_of_both_halves(fake_op, bench, monkeypatch) -> None:
    marks = iter([0, 3, 10, 15])
    monkeypatch.setattr(bench.clock, "mark", lambda: next(marks) * 10**6)
    assert bench.time_full(fake_op.providers["exact"]) == (3, 5)


def test_results_may_be_nested() -> None:
    one, two = torch.ones(1), torch.ones(2)
    assert as_tuple(one) == (one,)
    assert as_tuple([one, (two, None)]) == (one, two)


def test_reasons_are_one_line() -> None:
    assert why_not(ValueError("first\nsecond")) == "ValueError: first"
    assert why_not(RuntimeError()) == "RuntimeError: no message"
    assert len(why_not(ValueError("long " * 100))) == 200
