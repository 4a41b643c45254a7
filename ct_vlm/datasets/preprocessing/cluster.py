"""The same work as tasks of a ray cluster."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.preprocessing.pool import ATTEMPTS
from ct_vlm.datasets.preprocessing.resources import MEMORY_PER_WORKER
from ct_vlm.datasets.preprocessing.work import WORKER_DIED, given_up, preprocess_one
from ct_vlm.datasets.preprocessing.worker import limit_threads
from ct_vlm.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ct_vlm.datasets.preprocessing.outcome import Outcome
    from ct_vlm.datasets.preprocessing.work import Setup
    from ct_vlm.datasets.sample import Sample

_LOG = logging.getLogger(__name__)
_QUEUED_PER_CORE = 2
_POLL_SECONDS = 5.0


def clustered(
    samples: Sequence[Sample],
    setup: Setup,
    *,
    address: str | None = None,
    memory_per_worker: float = MEMORY_PER_WORKER,
) -> Generator[Outcome]:
    """Yield the outcome of every sample, in the order they finish, from one ray task each.

    Source files, cache and this library must be reachable on every node under the same paths. Ray that
    runs already is used and left running; else one is started for the iteration.

    Args:
        samples: What to preprocess.
        setup: Preset, HU rule and cache.
        address: Of a running cluster, e.g. ``auto``; without one, ``RAY_ADDRESS`` or this machine.
        memory_per_worker: GiB that a task reserves.

    Raises:
        MissingDependencyError: If ray is not installed.
    """
    with _connected(address) as ray:
        task = ray.remote(_task).options(num_cpus=1, memory=int(memory_per_worker * 2**30), max_retries=0)
        _warn_of_small_nodes(ray, memory_per_worker)
        shared = ray.put(setup)
        waiting = deque((replace(sample, report=None, labels=None, extras={}), 1) for sample in samples)
        running: dict[Any, tuple[Sample, int]] = {}
        try:
            while waiting or running:
                # nodes come and go, so the number of cores is asked for again
                cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
                while waiting and len(running) < cores * _QUEUED_PER_CORE:
                    sample, attempt = waiting.popleft()
                    running[task.remote(sample, shared)] = sample, attempt
                for reference in ray.wait(list(running), timeout=_POLL_SECONDS)[0]:
                    sample, attempt = running.pop(reference)
                    outcome = _outcome(ray, reference, sample, setup, attempt)
                    if outcome is None:
                        waiting.append((sample, attempt + 1))
                    else:
                        yield outcome
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _warn_of_small_nodes(ray: Any, memory: float) -> None:
    """Say so if no node can take a task: ray would wait for one without a word."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= 1 and node.get("memory", 0) >= memory * 2**30 for node in resources):
        _LOG.warning("No node of the ray cluster has a core and %g GiB of memory yet; waiting for one.", memory)


def _task(sample: Sample, setup: Setup) -> Outcome:
    """Preprocess one volume in a process of the cluster."""
    limit_threads()
    return preprocess_one(sample, setup)


def _outcome(ray: Any, reference: Any, sample: Sample, setup: Setup, attempt: int) -> Outcome | None:
    """Return a task's outcome; ``None`` if it is to be tried again."""
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        if attempt < ATTEMPTS:
            return None
        kind = type(error).__name__
        died = isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.OutOfMemoryError)
        cause = f"Its ray task failed {ATTEMPTS} times ({kind})."
        cure = "If memory ran out, reserve more a worker; otherwise check or exclude the file."
        return given_up(sample, setup, WORKER_DIED if died else kind, cause, cure, attempt)
    if outcome.failure is not None:
        return replace(outcome, failure=replace(outcome.failure, attempts=attempt))
    return outcome


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Yield ray, started here if it does not run yet; nothing is reported home and nothing is left behind."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported and when it starts
    try:
        import ray
    except ImportError as error:
        cause = f"The engine `ray` needs the package ray: {error}."
        raise MissingDependencyError(cause, 'Install it with `pip install "ct_vlm[cluster]"`.') from error
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    address = address or os.environ.get("RAY_ADDRESS")
    # a short name: paths of sockets have at most 107 characters
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        local: dict[str, Any] = {"address": "local", "include_dashboard": False, "_temp_dir": folder}
        ray.init(**quiet, **({"address": address} if address else local))
        try:
            yield ray
        finally:
            ray.shutdown()
