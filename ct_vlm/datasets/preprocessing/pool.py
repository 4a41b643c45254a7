"""Worker processes that may die or hang without harm to the rest of the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections import deque
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Self

from ct_vlm.datasets.preprocessing.outcome import Outcome
from ct_vlm.datasets.preprocessing.work import TIMED_OUT, WORKER_DIED, given_up
from ct_vlm.datasets.preprocessing.worker import worker_main
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import TracebackType

    from ct_vlm.datasets.preprocessing.work import Setup
    from ct_vlm.datasets.sample import Sample

ATTEMPTS = 2
"""How often a file is tried whose worker dies."""
_GRACE_SECONDS = 10.0
_FAILED_STARTS = 3


@dataclass
class _Task:
    sample: Sample
    attempts: int = 0


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    task: _Task | None = None
    deadline: float = field(default=float("inf"))


class WorkerPool:
    """Processes that preprocess one sample each at a time.

    Each worker has a channel of its own, so it is known which file a dead or hung worker was at:
    that file is tried once more at the end of the run, then given up, and a new worker takes the place.

    Args:
        setup: Preset, HU rule and cache.
        workers: Number of processes.
        timeout: Seconds after which a file is given up and its worker killed.
    """

    def __init__(self, setup: Setup, workers: int, timeout: float | None = None) -> None:
        self.setup = setup
        self.count = workers
        self.timeout = timeout
        # fresh interpreters: forked ones would share locks and threads of this process
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._tasks: deque[_Task] = deque()
        self._failed_starts = 0

    def __enter__(self) -> Self:
        """Return the pool; workers start with :meth:`run`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker."""
        self.close()

    def assignments(self) -> dict[int, str]:
        """Return the workers' process ids and the volume that each is at (empty: none)."""
        return {
            worker.process.pid: "" if worker.task is None else worker.task.sample.name.volume_id
            for worker in self._workers
            if worker.process.pid is not None
        }

    def start(self, workers: int | None = None) -> None:
        """Start processes and wait until they are ready.

        Args:
            workers: How many; all by default.

        Raises:
            DatasetError: If processes die while they start.
        """
        self._fill(self.count if workers is None else workers)
        while not all(worker.ready for worker in self._workers):
            for _ in self._collect():
                pass

    def run(self, samples: Iterable[Sample]) -> Iterator[Outcome]:
        """Yield the outcome of every sample, in the order they finish.

        Args:
            samples: What to preprocess.

        Raises:
            DatasetError: If processes die while they start.
        """
        # text and labels need not travel
        slim = (replace(sample, report=None, labels=None, extras={}) for sample in samples)
        self._tasks = deque(map(_Task, slim))
        while self._tasks or any(worker.task for worker in self._workers):
            self._fill(min(self.count, len(self._tasks) + sum(worker.task is not None for worker in self._workers)))
            self._hand_out()
            yield from self._collect()

    def close(self) -> None:
        """End every worker; one that is at work removes its half-written file first."""
        for worker in self._workers:
            worker.connection.close()
            if worker.task is not None or not worker.ready:
                worker.process.terminate()
        end = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(1.0)  # one that hangs in the kernel never ends: do not wait for it
        self._workers.clear()

    def _fill(self, count: int) -> None:
        """Start workers until there are so many."""
        while len(self._workers) < count:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=worker_main, args=(theirs,), daemon=True)
            with _interrupts_blocked():
                process.start()
            theirs.close()  # else the end of the worker would not close the channel
            self._workers.append(_Worker(process, ours))
            with contextlib.suppress(OSError):  # a worker that died already is noticed when it is asked
                ours.send(self.setup)

    def _hand_out(self) -> None:
        """Give every idle worker a task."""
        for worker in self._workers:
            if not self._tasks:
                return
            if worker.ready and worker.task is None:
                worker.task = self._tasks.popleft()
                worker.task.attempts += 1
                worker.deadline = float("inf") if self.timeout is None else time.monotonic() + self.timeout
                with contextlib.suppress(OSError):
                    worker.connection.send(worker.task.sample)

    def _collect(self) -> Iterator[Outcome]:
        """Wait for news and yield what is finished."""
        workers = {worker.connection: worker for worker in self._workers}
        nearest = min(worker.deadline for worker in self._workers)
        seconds = None if nearest == float("inf") else max(0.0, nearest - time.monotonic())
        for connection in wait(list(workers), seconds):
            yield from self._receive(workers[connection])  # type: ignore[index]  # only what was passed comes back
        for worker in [worker for worker in self._workers if worker.deadline <= time.monotonic()]:
            yield from self._overdue(worker)

    def _receive(self, worker: _Worker) -> Iterator[Outcome]:
        """Take a worker's message."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._died(worker)
            return
        self._failed_starts = 0
        task, worker.task, worker.deadline = worker.task, None, float("inf")
        worker.ready = True
        if task is None or not isinstance(message, Outcome):
            return
        if message.failure is not None:
            message = replace(message, failure=replace(message.failure, attempts=task.attempts))
        yield message

    def _died(self, worker: _Worker) -> Iterator[Outcome]:
        """Put a dead worker's file back, or give it up."""
        self._remove(worker)
        if worker.task is None:
            self._failed_starts += not worker.ready
            if self._failed_starts >= _FAILED_STARTS:
                cause = f"Worker processes die while they start ({_ending(worker.process.exitcode)})."
                cure = 'Run with `workers=0` to see why; a script needs `if __name__ == "__main__":` around the call.'
                raise DatasetError(cause, cure)
        elif worker.task.attempts < ATTEMPTS:
            self._tasks.append(worker.task)
        else:
            cause = f"Its worker process died {ATTEMPTS} times ({_ending(worker.process.exitcode)})."
            cure = "If memory ran out, use fewer workers; otherwise check or exclude the file."
            yield self._given_up(worker.task, WORKER_DIED, cause, cure)

    def _overdue(self, worker: _Worker) -> Iterator[Outcome]:
        """Kill a worker that takes too long and give its file up."""
        worker.process.kill()
        self._remove(worker)
        if worker.task is not None:
            cause = f"It took longer than {self.timeout:g} s."
            yield self._given_up(worker.task, TIMED_OUT, cause, "Check its disk, or allow more time.")

    def _given_up(self, task: _Task, error: str, cause: str, cure: str) -> Outcome:
        """Return the outcome of a file whose worker did not answer."""
        return given_up(task.sample, self.setup, error, cause, cure, task.attempts)

    def _remove(self, worker: _Worker) -> None:
        """Forget a worker."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join(1.0)


def pooled(samples: Iterable[Sample], setup: Setup, workers: int, timeout: float | None = None) -> Iterator[Outcome]:
    """Yield outcomes of a pool that lives as long as the iteration."""
    with WorkerPool(setup, workers, timeout) as pool:
        yield from pool.run(samples)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start children that never see Ctrl-C, not even before they can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(exit_code: int | None) -> str:
    """Say how a process ended."""
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
