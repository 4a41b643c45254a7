"""Preprocessing as tasks of a real ray cluster on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ct_vlm.datasets import preprocess
from ct_vlm.datasets.preprocessing import cluster as module
from ct_vlm.datasets.preprocessing.cluster import clustered

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="ray is not installed")
_SMALL = {"object_store_memory": 80 * 2**20}
_GIB = 0.1


def ray_folders() -> set[str]:
    """Return what lies in the places where ray keeps sessions."""
    places = (Path(tempfile.gettempdir()), Path("/dev/shm"))  # where Linux keeps shared memory
    return {str(path) for place in places if place.is_dir() for path in place.glob("*ray*")}


@pytest.fixture(scope="module")
def two_nodes(repository: Path):
    """A head that takes no tasks and two worker nodes of one core each."""
    from ray.cluster_utils import Cluster

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("PYTHONPATH", str(repository))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", folder)
        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=0, include_dashboard=False, **_SMALL)
            for _ in range(2):
                cluster.add_node(num_cpus=1, **_SMALL)
            cluster.wait_for_nodes()
            yield cluster.address
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(autouse=True)
def _disconnected():
    """Leave no connection to the next test."""
    yield
    ray.shutdown()


def test_files_that_kill_their_task_are_tried_twice_and_given_up(
    faulty, setup_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(repository), str(tmp_path / "modules")]))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "die-train_2_a_1").touch()
    (tmp_path / "once-train_4_a_1").touch()
    before = ray_folders()
    outcomes = {
        outcome.volume: outcome for outcome in clustered(faulty.samples, setup_of(faulty), memory_per_worker=_GIB)
    }
    failed = [outcome for outcome in outcomes.values() if outcome.failure is not None]
    assert [outcome.volume for outcome in failed] == ["train_2_a_1"]
    assert (failed[0].failure.error, failed[0].failure.attempts) == ("WorkerDied", 2)
    assert failed[0].failure.quarantined
    assert len(outcomes) == len(faulty.samples)
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert ray_folders() <= before


def test_two_nodes_do_what_one_process_does(make_dataset, tmp_path: Path, tree: Any, two_nodes: str) -> None:
    bad = tree.path("train_2_a_1")
    bad.write_bytes(bad.read_bytes()[:300])
    ray.init(address=two_nodes, log_to_driver=False, configure_logging=False)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    assert len(nodes) == 2
    there = preprocess(make_dataset(cache=tmp_path / "a"), engine="ray", memory_per_worker=_GIB, progress=False)
    assert ray.is_initialized()  # a connection that was there before stays
    here = preprocess(make_dataset(cache=tmp_path / "b"), progress=False)
    assert (there.made, there.failures) == (here.made, here.failures)
    assert list(there.failures) == ["train_2_a_1"]
    contents = [
        sorted((path.name, path.read_bytes()) for path in (tmp_path / name / "small").iterdir()) for name in "ab"
    ]
    assert contents[0] == contents[1]
    again = preprocess(make_dataset(cache=tmp_path / "a"), engine="ray", memory_per_worker=_GIB, progress=False)
    assert (again.made, again.present, again.known) == ([], here.made, ["train_2_a_1"])


def test_nodes_that_are_too_small_are_named(two_nodes: str, caplog: pytest.LogCaptureFixture) -> None:
    ray.init(address=two_nodes, log_to_driver=False, configure_logging=False)
    module._warn_of_small_nodes(ray, _GIB)
    assert caplog.text == ""
    module._warn_of_small_nodes(ray, 1e6)
    assert "No node of the ray cluster" in caplog.text


def test_a_cluster_that_is_named_is_joined_and_left_running(make_dataset, two_nodes: str) -> None:
    dataset = make_dataset("valid")
    result = preprocess(dataset, engine="ray", ray_address=two_nodes, memory_per_worker=_GIB, progress=False)
    assert len(result.made) == 3
    assert not ray.is_initialized()
    ray.init(address=two_nodes, log_to_driver=False, configure_logging=False)
    assert ray.cluster_resources()["CPU"] == 2
