"""Time the providers of one case side by side: one call of each, and again from the first."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.calls import Bench, why_not
from benchmarks.ceilings import Ceiling, floor_ms
from benchmarks.environment import Environment, load
from benchmarks.peak import extra_peak_mib
from benchmarks.reference import Findings, has_backward, inspect, run_exact
from benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from benchmarks.clocks import Clock
    from benchmarks.registry import Case, Op

FEWEST = 3
"""Calls of a provider, even if the budget is spent."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Args:
        device: Where.
        dtype: Type of floating-point inputs.
        repeats: Most timed calls of a provider.
        budget_s: Wall seconds after which no further round of calls begins.
        tests: ``passed`` or ``skipped``, for the rows.
        step: Called with what is done next.
    """

    device: torch.device
    dtype: torch.dtype
    repeats: int
    budget_s: float
    tests: str
    step: Callable[[str], None] = lambda _: None


Samples = dict[str, dict[str, list[float]]]
"""Times in ms by provider and mode."""


def measure_case(
    op: Op, case: Case, settings: Settings, clock: Clock, ceiling: Ceiling, environment: Environment
) -> list[Row]:
    """Compare, weigh and time all providers of a case; one row a provider and mode."""
    load_before = load()
    settings.step("comparing with float64")
    bench = Bench.of(op, op.make_inputs(case, settings.device, settings.dtype), clock)
    findings = _inspect_all(op, case, bench, settings)
    settings.step("memory")
    memory = {name: _memory(op, name, bench, findings[name], settings, case) for name in op.providers}
    settings.step("timing")
    samples = _time_all(op, case, bench, findings, settings)
    template = Row(
        **dataclasses.asdict(environment),
        load=load_before,
        clock=clock.name,
        tests=settings.tests,
        op=op.name,
        case=case["name"],
        dtype=str(settings.dtype).removeprefix("torch."),
        provider="",
        mode="",
        gflops=ceiling.gflops,
        gbs=ceiling.gbs,
    )
    floor = floor_ms(op.floor(case, settings.dtype), ceiling)
    modes = ("forward", "backward", "full") if has_backward(op, case) else ("forward",)
    rows = []
    for name in op.providers:
        found = findings[name]
        for mode in modes:
            source = "forward" if mode == "forward" else "full"
            row = dataclasses.replace(template, provider=name, mode=mode, reason=found.reasons.get(source, ""))
            if source in found.differences:
                largest, scale = found.differences[source]
                row = dataclasses.replace(row, difference=largest, reference_max=scale)
            rows.append(_timed(row, samples, op.baseline, memory[name], floor))
    absent = [(name, mode, reason) for name, reason in op.missing.items() for mode in modes]
    return rows + [dataclasses.replace(template, provider=name, mode=m, reason=reason) for name, m, reason in absent]


def _inspect_all(op: Op, case: Case, bench: Bench, settings: Settings) -> dict[str, Findings]:
    """Call all providers for the first time, and compare them on the case or on a smaller one."""
    if op.shrink is None:
        exact = run_exact(op, case, bench, settings.device)
        return {name: inspect(op, case, name, bench, exact) for name in op.providers}
    small = op.shrink(case)
    small_bench = Bench.of(op, op.make_inputs(small, settings.device, settings.dtype), bench.clock)
    exact = run_exact(op, small, small_bench, settings.device)
    found = {}
    for name in op.providers:
        differences, reasons = inspect(op, small, name, small_bench, exact)
        found[name] = Findings(differences, {**inspect(op, case, name, bench, None).reasons, **reasons})
    return found


def _memory(
    op: Op, name: str, bench: Bench, findings: Findings, settings: Settings, case: Case
) -> dict[str, float | None]:
    provider, weighed = op.providers[name], {}
    if "forward" not in findings.reasons:
        weighed["forward"] = extra_peak_mib(lambda: bench.forward(provider), settings.device)
    if has_backward(op, case) and "full" not in findings.reasons:
        bench.forget_gradients()
        weighed["full"] = extra_peak_mib(lambda: bench.time_full(provider), settings.device)
        bench.forget_gradients()
    return weighed


def _time_all(op: Op, case: Case, bench: Bench, findings: dict[str, Findings], settings: Settings) -> Samples:
    """Time calls in rounds, so that what slows the machine slows every provider."""
    samples: Samples = {name: {} for name in op.providers}
    end = time.monotonic() + settings.budget_s
    gc.collect()
    gc.disable()
    try:
        for done in range(settings.repeats):
            if done >= FEWEST and time.monotonic() > end:
                break
            settings.step(f"timing {done + 1} of {settings.repeats}")
            for name in op.providers:
                _time_one(op, case, name, bench, findings[name], samples[name])
    finally:
        gc.enable()
    bench.forget_gradients()
    return samples


def _time_one(op: Op, case: Case, name: str, bench: Bench, findings: Findings, times: dict[str, list[float]]) -> None:
    provider = op.providers[name]
    try:
        if "forward" not in findings.reasons:
            times.setdefault("forward", []).append(bench.time_forward(provider))
        if has_backward(op, case) and "full" not in findings.reasons:
            forward, backward = bench.time_full(provider)
            times.setdefault("backward", []).append(backward)
            times.setdefault("full", []).append(forward + backward)
    except Exception as error:  # what ran once may still run out of memory
        times.clear()
        findings.reasons.update(dict.fromkeys(("forward", "full"), why_not(error)))


def _timed(row: Row, samples: Samples, baseline: str, memory: dict[str, float | None], floor: float) -> Row:
    """Put times and what follows from them into a row."""
    times = samples[row.provider].get(row.mode)
    if not times:
        return row
    median = statistics.median(times)
    against = samples.get(baseline, {}).get(row.mode)
    of_forward = row.mode == "forward" and median > 0
    return dataclasses.replace(
        row,
        repeats=len(times),
        median_ms=median,
        fastest_ms=min(times),
        slowest_ms=max(times),
        ratio=statistics.median(against) / median if against and median > 0 else None,
        extra_mib=memory.get(row.mode),
        floor_ms=floor if of_forward else None,
        floor_share=floor / median if of_forward else None,
    )
