"""Providers of a case take turns; each has its rows, with a time or with a reason."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks import measure
from benchmarks.ceilings import Ceiling
from benchmarks.clocks import CPUClock
from benchmarks.environment import describe
from benchmarks.measure import Settings, measure_case
from benchmarks.reference import largest_difference

CPU = torch.device("cpu")
MODES = ("forward", "backward", "full")


@pytest.fixture
def run(fake_op, weightless):
    """Measure a case of the fake op and return its rows by provider and mode."""

    def measured(op=fake_op, case=0, repeats=2, dtype=torch.float32, **options):
        settings = Settings(CPU, dtype, repeats, options.pop("budget_s", 60), "passed", **options)
        rows = measure_case(op, op.cases[case], settings, CPUClock(), Ceiling(50, 10), describe(CPU))
        assert len({(row.provider, row.mode) for row in rows}) == len(rows)
        return {(row.provider, row.mode): row for row in rows}

    return measured


def test_every_provider_has_a_row_a_mode(run, fake_op) -> None:
    rows = run()
    assert set(rows) == {(name, mode) for name in [*fake_op.providers, "library"] for mode in MODES}
    for row in rows.values():
        assert (row.repeats, row.reason) == (0, row.reason) if row.median_ms is None else (2, "")
        assert (row.op, row.case, row.dtype, row.tests, row.gflops) == ("fake", "small", "float32", "passed", 50)


def test_what_cannot_run_has_its_reason(run) -> None:
    reasons = {key: row.reason for key, row in run().items() if row.median_ms is None}
    expected = {("no backward", mode): "NotImplementedError: no backward here" for mode in MODES[1:]}
    expected |= {("inference", mode): "constants" for mode in MODES[1:]}
    expected |= {("broken", mode): "RuntimeError: no message" for mode in MODES}
    expected |= {("library", mode): "not installed" for mode in MODES}
    wrong = "ValueError: a result has shape (1,), that of the reference (4,)"
    assert reasons == expected | {("other shape", mode): wrong for mode in MODES}


def test_cases_without_a_backward_have_forward_rows_only(run) -> None:
    assert {mode for _, mode in run(case=1)} == {"forward"}


def test_differences_are_to_float64(run) -> None:
    rows = run()
    assert rows["off", "forward"].difference == pytest.approx(0.25, abs=1e-6)
    assert rows["off", "forward"].reference_max == pytest.approx(4)
    assert 0 < rows["exact", "forward"].difference < 1e-6
    assert 0 <= rows["off", "full"].difference < 1e-6
    assert rows["no backward", "full"].difference is None
    # the reference reads the numbers as they are rounded, so only the squares round
    assert run(dtype=torch.float64)["exact", "forward"].difference == 0


def test_ratios_are_of_medians_to_the_baseline(run, monkeypatch) -> None:
    moments = iter(range(0, 10**12, 10**6))
    monkeypatch.setattr(CPUClock, "mark", lambda _: next(moments))
    rows = run()
    for key in [("exact", "forward"), ("off", "full"), ("off", "backward")]:
        assert rows[key].ratio == 1
    assert rows["off", "full"].median_ms == 2
    assert rows["off", "forward"].floor_ms == pytest.approx(32 / 10 / 1e6)
    assert rows["off", "forward"].floor_share == pytest.approx(32 / 10 / 1e6)
    assert rows["off", "full"].floor_share is None


def test_providers_take_turns(run, fake_op, calls) -> None:
    steps = []

    def step(text: str) -> None:
        steps.append(text)
        if text.startswith("timing 1"):
            calls.clear()

    run(repeats=2, step=step)
    turn = [
        *[("exact", False), ("exact", True), ("off", False), ("off", True)],
        *[("no backward", False), ("inference", False)],
    ]
    assert calls == turn * 2
    assert steps == ["comparing with float64", "memory", "timing", "timing 1 of 2", "timing 2 of 2"]


@pytest.mark.parametrize(("repeats", "done"), [(10, 3), (2, 2)])
def test_a_spent_budget_ends_after_a_few_rounds(run, repeats, done) -> None:
    assert run(repeats=repeats, budget_s=-1)["exact", "forward"].repeats == done


def test_smaller_case_stands_in_for_differences(run, fake_op, calls) -> None:
    small = dataclasses.replace(fake_op, shrink=lambda case: {**case, "size": 3})
    rows = run(small)
    assert rows["off", "forward"].difference == pytest.approx(0.25, abs=1e-6)
    assert "(3,)" in rows["other shape", "forward"].reason
    assert rows["exact", "full"].repeats == 2
    assert rows["broken", "forward"].reason == "RuntimeError: no message"


def test_failure_while_timing_leaves_no_times(run, fake_op) -> None:
    calls = []

    def tired(inputs):
        calls.append(1)
        if len(calls) > 5:
            msg = "out of memory"
            raise RuntimeError(msg)
        return inputs["x"] * inputs["x"]

    rows = run(dataclasses.replace(fake_op, providers={**fake_op.providers, "tired": tired}))
    assert [(rows["tired", m].median_ms, rows["tired", m].reason) for m in MODES] == [
        (None, "RuntimeError: out of memory")
    ] * 3


def test_memory_is_of_forward_and_of_full(run, monkeypatch) -> None:
    weights = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    monkeypatch.setattr(measure, "extra_peak_mib", lambda call, device: (call(), next(weights))[1])
    rows = run()
    found = {key: row.extra_mib for key, row in rows.items() if row.extra_mib is not None}
    assert found == {
        ("exact", "forward"): 1,
        ("exact", "full"): 2,
        ("off", "forward"): 3,
        ("off", "full"): 4,
        ("no backward", "forward"): 5,
        ("inference", "forward"): 6,
    }


def test_largest_difference_keeps_nan_and_compares_integers() -> None:
    nan = largest_difference([(torch.tensor([1.0, float("nan")]), torch.ones(2)), (torch.ones(1), torch.ones(1))])
    assert nan.largest != nan.largest
    assert largest_difference([(torch.tensor([3]), torch.tensor([5]))]) == (2, 5)
    assert largest_difference([(torch.ones(0), torch.ones(0))]) == (0, 0)
