"""How many workers run: affinity, quotas and memory decide."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ct_vlm.datasets.preprocessing import plan_workers
from ct_vlm.datasets.preprocessing.worker import limit_threads
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine of 64 cores and 256 GiB, whose files a test may add to."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)

    def write(files: dict[str, str], **arguments):
        for name, text in {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {256 * 2**20} kB", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return plan_workers(**arguments, proc=tmp_path / "proc", groups=tmp_path / "groups")

    return write


def test_one_worker_a_core(machine) -> None:
    assert str(machine({})) == "64 workers (64 cores, 256.0 GiB free, 1 GiB a worker)"


def test_memory_caps(machine) -> None:
    assert machine({}, memory_per_worker=20.0).workers == 12
    assert machine({}, memory_per_worker=1000.0).workers == 1


def test_a_number_is_taken_as_it_is(machine) -> None:
    assert machine({}, workers=100).workers == 100
    alone = machine({}, workers=0)
    assert (alone.workers, str(alone)) == (0, "this process alone")


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 64), ("350000 100000", 3), ("50000 100000", 1), ("garbage", 64)]
)
def test_quota_of_the_container(machine, quota: str, cores: int) -> None:
    assert machine({"groups/cpu.max": quota}).cores == cores


def test_limits_of_the_job_and_of_those_above_it(machine) -> None:
    plan = machine(
        {
            "proc/self/cgroup": "0::/slurm/job_7/step_0",
            "groups/slurm/cpu.max": "1600000 100000",
            "groups/slurm/job_7/cpu.max": "800000 100000",
            "groups/slurm/job_7/memory.max": str(10 * GIB),
            "groups/slurm/job_7/memory.current": str(5 * GIB),
            "groups/slurm/job_7/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            "groups/slurm/job_7/step_0/memory.max": "max",
        }
    )
    assert (plan.cores, plan.memory, plan.workers) == (8, 6.0, 6)


def test_first_version_of_control_groups(machine) -> None:
    plan = machine(
        {
            "groups/cpu/cpu.cfs_quota_us": "200000",
            "groups/cpu/cpu.cfs_period_us": "100000",
            "groups/memory/memory.limit_in_bytes": str(2**63 - 4096),
            "groups/memory/memory.usage_in_bytes": str(GIB),
        }
    )
    assert (plan.cores, plan.memory) == (2, 256.0)


def test_unknown_memory_does_not_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    plan = plan_workers(proc=tmp_path / "none", groups=tmp_path / "none")
    assert str(plan) == "2 workers (2 cores, memory unknown, 1 GiB a worker)"


@pytest.mark.parametrize("arguments", [{"workers": -1}, {"memory_per_worker": 0.0}, {"memory_per_worker": -1.0}])
def test_wrong_numbers_are_named(arguments) -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        plan_workers(**arguments)


def test_workers_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLOSC_NTHREADS"):
        monkeypatch.setenv(name, "7")
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        limit_threads()
        assert cv2.getNumThreads() == 1
        assert {os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLOSC_NTHREADS")} == {"1"}
    finally:
        cv2.setNumThreads(before)
