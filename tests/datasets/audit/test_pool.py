"""Threads and processes: order, progress, and workers that die."""

from __future__ import annotations

import os

import pytest

from ct_vlm.datasets.audit import pool
from ct_vlm.datasets.audit.pool import in_processes, in_threads, progress_bar
from ct_vlm.datasets.preprocessing import WorkerPlan
from ct_vlm.errors import ConfigError

# evaluated by the workers, which cannot import test modules; one dies as a process does that runs out of memory
ITEMS = [f"'done {number}'" if number != 7 else "__import__('os')._exit(1)" for number in range(12)]


@pytest.mark.parametrize("workers", [0, 1, 3, None])
def test_threads_keep_the_order_and_report_every_item(workers: int | None) -> None:
    advanced: list[int] = []
    results = list(in_threads(lambda item: item * 2, range(200), workers, advanced.append))
    assert results == list(range(0, 400, 2))
    assert sum(advanced) == 200


def test_no_items_are_no_work() -> None:
    assert list(in_threads(abs, [], None, lambda count: None)) == []
    assert list(in_processes(abs, [], 2, lambda count: None, abs)) == []


def test_the_number_of_processes_follows_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def plan(*wanted: object) -> WorkerPlan:
        asked.append(wanted)
        return WorkerPlan(0, 1, 1.0, 2.0)

    monkeypatch.setattr(pool, "plan_workers", plan)
    found = in_processes(lambda item: os.getpid(), [1, 2], None, lambda count: None, abs)
    assert {process for _, process in found} == {os.getpid()}  # a plan of none is kept
    assert asked == [("auto", 2.0)]


def test_a_dying_process_costs_its_own_item_only() -> None:
    advanced: list[int] = []
    results = dict(in_processes(eval, ITEMS, 2, advanced.append, lambda item: "died"))
    assert [results[item] for item in ITEMS] == ["died" if n == 7 else f"done {n}" for n in range(12)]
    assert sum(advanced) == 12


def test_processes_that_cannot_start_are_an_error_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_context", _context_that_dies)
    with pytest.raises(ConfigError, match="workers=0"):
        list(in_processes(abs, [1, 2], 1, lambda count: None, abs))


def _context_that_dies() -> object:
    import multiprocessing

    class Dying(multiprocessing.get_context("fork").Process):  # type: ignore[misc]
        def run(self) -> None:
            os._exit(1)

    context = multiprocessing.get_context("fork")
    context.Process = Dying  # type: ignore[misc]
    return context


def test_the_bar_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("files", 3, show=True) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
