"""Look at many files at once, with a progress bar, outliving workers that die."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from ct_vlm.datasets.preprocessing.resources import plan_workers
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")
_BATCH = 64
_QUEUED_PER_WORKER = 3
_THREADS_PER_CORE = 4  # threads mostly wait for the disk
_GIB_PER_PROCESS = 2.0  # a volume is held whole, as stored and as HU; inferred


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None, advance: Callable[[int], None]
) -> Iterator[Result]:
    """Yield the result of every item, in order; threads share the work.

    Args:
        function: What to do with an item.
        items: The items.
        workers: Number of threads; 0 works in this one, ``None`` takes four a core that this process may use.
        advance: Called with the number of items that were done.

    Example:
        >>> from ct_vlm.datasets.audit.pool import in_threads
        >>> list(in_threads(abs, [-1, 2], 2, lambda count: None))
        [1, 2]
    """
    number = min(32, _THREADS_PER_CORE * plan_workers().cores) if workers is None else workers
    batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]

    def work(batch: Sequence[Item]) -> list[Result]:
        return [function(item) for item in batch]

    if number <= 1:
        for batch in batches:
            yield from work(batch)
            advance(len(batch))
        return
    with ThreadPoolExecutor(number) as pool:
        for results in pool.map(work, batches):
            yield from results
            advance(len(results))


def in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    advance: Callable[[int], None],
    died: Callable[[Item], Result],
) -> Iterator[tuple[Item, Result]]:
    """Yield every item with its result, as they finish; processes share the work.

    When a process dies, the items that were under way are tried once more, each in a process of its
    own, so that only the one at fault is given up.

    Args:
        function: What to do with an item; it must not raise.
        items: The items.
        workers: Number of processes; 0 works in this one, ``None`` takes one a core, fewer where
            memory is short.
        advance: Called with the number of items that were done.
        died: Gives the result of an item whose process died.

    Raises:
        ConfigError: If no process can be started.
    """
    number = plan_workers("auto", _GIB_PER_PROCESS).workers if workers is None else workers
    if number <= 0:
        for item in items:
            yield item, function(item)
            advance(1)
        return
    left: list[Item] = list(items)
    while left:
        suspects: list[Item] = []
        done = 0
        for item, result in _one_pool(function, left, number, suspects):
            done += 1
            advance(1)
            yield item, result
        if suspects and done == 0:
            _check_start()
        for item in suspects:
            yield item, _alone(function, item, died)
            advance(1)
        left = left[done + len(suspects) :]


def _one_pool(
    function: Callable[[Item], Result], items: Sequence[Item], number: int, suspects: list[Item]
) -> Iterator[tuple[Item, Result]]:
    """Work until all is done or a process dies, which leaves the items under way as suspects."""
    waiting = iter(items)
    with ProcessPoolExecutor(number, mp_context=_context()) as pool:
        running: dict[Future[Result], Item] = {}
        while True:
            try:
                for item in islice(waiting, 0 if suspects else number * _QUEUED_PER_WORKER - len(running)):
                    running[_submit(pool, function, item, suspects)] = item
            except BrokenProcessPool:
                pass  # the item is among the suspects; those under way follow below
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    yield item, future.result()
                except BrokenProcessPool:
                    suspects.append(item)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], item: Item, suspects: list[Item]
) -> Future[Result]:
    """Hand an item to a pool; one that is broken makes it a suspect."""
    try:
        return pool.submit(function, item)
    except BrokenProcessPool:
        suspects.append(item)
        raise


def _alone(function: Callable[[Item], Result], item: Item, died: Callable[[Item], Result]) -> Result:
    """Work on one item in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=_context()) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return died(item)


def _check_start() -> None:
    """Tell processes that cannot start from those that die of their work.

    Raises:
        ConfigError: If an idle process dies too.
    """
    with ProcessPoolExecutor(1, mp_context=_context()) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            cause = "Worker processes cannot be started from here."
            cure = 'Call from a script under `if __name__ == "__main__":`, or pass `workers=0`.'
            raise ConfigError(cause, cure) from error


def _context() -> multiprocessing.context.BaseContext:
    """Return a way to start processes that does not fork a process with threads."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


@contextmanager
def progress_bar(label: str, total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a progress bar by a number of items; only a terminal shows it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
