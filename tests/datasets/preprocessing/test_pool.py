"""Worker processes that die, hang or do not start."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ct_vlm.datasets import preprocess
from ct_vlm.datasets.preprocessing import pool as pool_module
from ct_vlm.datasets.preprocessing.pool import WorkerPool
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_do_what_this_one_does(make_dataset, tmp_path: Path, tree: Any) -> None:
    bad = tree.path("train_2_a_1")
    bad.write_bytes(bad.read_bytes()[:300])
    here = preprocess(make_dataset(cache=tmp_path / "a"), progress=False)
    there = preprocess(make_dataset(cache=tmp_path / "b"), 2, progress=False)
    assert (there.made, there.failures) == (here.made, here.failures)
    contents = [
        sorted((path.name, path.read_bytes()) for path in (tmp_path / name / "small").iterdir()) for name in "ab"
    ]
    assert contents[0] == contents[1]


def test_a_file_that_kills_its_worker_is_tried_twice_and_given_up(faulty, tmp_path: Path, cache_entries) -> None:
    (tmp_path / "die-train_2_a_1").touch()
    (tmp_path / "once-train_4_a_1").touch()
    result = preprocess(faulty, 1, progress=False)
    assert list(result.failures) == ["train_2_a_1"]
    assert "died 2 times (killed by SIGKILL)" in result.failures["train_2_a_1"]
    assert "train_4_a_1" in result.made
    assert len(result.made) == len(faulty.samples) - 1 == len(cache_entries(tmp_path / "cache"))
    again = preprocess(faulty, progress=False)  # in this process, which would die if it tried
    assert again.known == ["train_2_a_1"]
    (tmp_path / "die-train_2_a_1").unlink()
    assert preprocess(faulty, progress=False, retry_failed=True).made == ["train_2_a_1"]


def test_a_file_that_takes_too_long_is_given_up_for_this_run(faulty, tmp_path: Path) -> None:
    hang = tmp_path / "hang-train_2_a_1"
    hang.touch()
    result = preprocess(faulty, 1, progress=False, timeout=1.5)
    assert list(result.failures) == ["train_2_a_1"]
    assert "longer than 1.5 s" in result.failures["train_2_a_1"]
    assert len(result.made) == len(faulty.samples) - 1
    hang.unlink()
    assert preprocess(faulty, progress=False).made == ["train_2_a_1"]


@pytest.mark.slow
def test_an_idle_worker_that_is_killed_is_replaced(make_dataset, setup_of) -> None:
    dataset = make_dataset()
    with WorkerPool(setup_of(dataset), 1) as pool:
        pool.start()
        (pid,) = pool.assignments()
        os.kill(pid, signal.SIGKILL)
        outcomes = list(pool.run(dataset.samples))
        assert [outcome.state for outcome in outcomes] == ["made"] * len(dataset.samples)
        assert pid not in pool.assignments()


def test_interrupts_end_busy_workers(faulty, setup_of, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "hang-train_2_a_1").touch()
    pool = WorkerPool(setup_of(faulty), 1)
    pids: list[int] = []
    # a shell starts what it puts into the background with interrupts ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt_when_busy() -> None:
        while "train_2_a_1" not in pool.assignments().values():
            time.sleep(0.05)
        pids.extend(pool.assignments())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_busy, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt), pool:
        list(pool.run(faulty.samples))
    thread.join(5)
    assert pids
    assert not any(alive(pid) for pid in pids)
    assert list((tmp_path / "cache").rglob(".tmp-*")) == []


def test_workers_that_do_not_start_end_the_run(make_dataset, setup_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "worker_main", os._exit)
    dataset = make_dataset()
    with WorkerPool(setup_of(dataset), 1) as pool, pytest.raises(DatasetError, match="die while they start"):
        list(pool.run(dataset.samples))
