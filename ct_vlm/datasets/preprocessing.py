"""Fill the cache of a data set with all cores, and say which files are bad."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ct_vlm.datasets.volumes import cache_key, entry_name, preprocessed
from ct_vlm.errors import ConfigError, CTVLMError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct_vlm.datasets.cache import ArrayCache
    from ct_vlm.datasets.ct_rate import CTRateDataset
    from ct_vlm.datasets.sample import Sample
    from ct_vlm.transforms import CTPreset

Outcome = tuple[str, str, str]  # volume, state, message
_QUEUED_PER_WORKER = 4


@dataclass
class PreprocessResult:
    """What :func:`preprocess` did.

    Args:
        made: Volumes written to the cache.
        present: Volumes that were there already.
        failures: Volume to what is wrong with it.

    Example:
        >>> from ct_vlm.datasets import PreprocessResult
        >>> print(PreprocessResult(made=["train_1_a_1"], failures={"train_2_a_1": "It is truncated."}))
        1 volumes made, 0 present already, 1 failed
          train_2_a_1: It is truncated.
    """

    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return counts and one line a failure."""
        head = f"{len(self.made)} volumes made, {len(self.present)} present already, {len(self.failures)} failed"
        return "\n".join([head, *(f"  {name}: {message}" for name, message in self.failures.items())])


def preprocess(dataset: CTRateDataset, workers: int = 0, *, progress: bool = True) -> PreprocessResult:
    """Fill a data set's cache; a bad file is reported, and the others go on.

    Interrupted runs go on where they stopped: entries that are present and whole are skipped.

    Args:
        dataset: Its samples (every reconstruction) are preprocessed.
        workers: Processes; 0 works in this one.
        progress: Show a bar (on a terminal only).

    Raises:
        ConfigError: If the data set has no cache.
    """
    if dataset.cache.folder is None:
        cause = "The data set has no cache to fill."
        raise ConfigError(cause, "Pass `cache_dir=` to the data set.")
    result = PreprocessResult()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task("Preprocessing", total=len(dataset.samples))
        for name, state, message in _outcomes(dataset, workers):
            if state == "failed":
                result.failures[name] = message
            else:
                getattr(result, state).append(name)
            bar.advance(task)
    for names in (result.made, result.present):
        names.sort()
    return result


def _outcomes(dataset: CTRateDataset, workers: int) -> Iterator[Outcome]:
    """Yield the outcome of every sample, in the order they finish."""
    arguments = (dataset.preset, dataset.hu_source, dataset.cache)
    if workers <= 0:
        for sample in dataset.samples:
            yield _preprocess_one(sample, *arguments)
        return
    # a fresh server process: forking one that runs torch threads can deadlock
    context = multiprocessing.get_context(
        "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    )
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        yield from _pooled(pool, dataset.samples, arguments, workers)


def _pooled(
    pool: ProcessPoolExecutor, samples: Sequence[Sample], arguments: tuple[CTPreset, str, ArrayCache], workers: int
) -> Iterator[Outcome]:
    """Keep a few samples queued a worker, so that 50,000 of them need no memory."""
    left = iter(samples)
    running: dict[Future[Outcome], str] = {}
    while True:
        for sample in islice(left, workers * _QUEUED_PER_WORKER - len(running)):
            try:
                running[pool.submit(_preprocess_one, sample, *arguments)] = sample.name.volume_id
            except BrokenProcessPool as error:
                yield sample.name.volume_id, "failed", f"Not tried: {error}"
        if not running:
            return
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(done)
            try:
                yield done.result()
            except Exception as error:
                yield name, "failed", f"The worker process died: {error}"


def _preprocess_one(sample: Sample, preset: CTPreset, hu_source: str, cache: ArrayCache) -> Outcome:
    """Preprocess one sample unless its entry is whole."""
    name = sample.name.volume_id
    try:
        path = cache.path(entry_name(preset, name), cache_key(sample, preset, hu_source))
        if cache.load(path) is not None:
            return name, "present", ""
        preprocessed(sample, preset, hu_source, cache)
        if path is None or not path.is_file():
            return name, "failed", f"Cannot write to the cache `{cache.folder}`."
    except (CTVLMError, OSError, MemoryError) as error:
        return name, "failed", str(error) or type(error).__name__
    return name, "made", ""


def _one_thread() -> None:
    """Leave the cores to the other workers."""
    import torch

    torch.set_num_threads(1)
