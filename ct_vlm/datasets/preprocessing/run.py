"""Fill the cache of a data set with all cores, and say which files are bad."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from ct_vlm.datasets.preprocessing.cluster import clustered
from ct_vlm.datasets.preprocessing.pool import pooled
from ct_vlm.datasets.preprocessing.progress import Display
from ct_vlm.datasets.preprocessing.report import FailureReport
from ct_vlm.datasets.preprocessing.resources import MEMORY_PER_WORKER, plan_workers
from ct_vlm.datasets.preprocessing.shards import Shard
from ct_vlm.datasets.preprocessing.work import CACHE_ERROR, Setup, known_entry, preprocess_one
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from ct_vlm.datasets.ct_rate import CTRateDataset
    from ct_vlm.datasets.preprocessing.outcome import Failure, Outcome
    from ct_vlm.datasets.radgenome import RadGenomeDataset
    from ct_vlm.datasets.sample import Sample

Engine = Literal["processes", "ray"]


@dataclass
class PreprocessResult:
    """What :func:`preprocess` did.

    Args:
        made: Volumes written to the cache.
        present: Volumes that were there already.
        failures: Volume to what is wrong with it.
        known: Those of the failures that an earlier run met and this one did not try again.
        stopped: Why the run ended early; empty if it did not.
        report: Table of the failures, if there is one.
        seconds: Time taken.

    Example:
        >>> from ct_vlm.datasets import PreprocessResult
        >>> print(PreprocessResult(made=["train_1_a_1"], failures={"train_2_a_1": "It is truncated."}))
        1 volumes made, 0 present already, 1 failed
          train_2_a_1: It is truncated.
    """

    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    stopped: str = ""
    report: Path | None = None
    seconds: float = 0.0

    def summary(self) -> str:
        """Return the counts in one line."""
        head = f"{len(self.made)} volumes made, {len(self.present)} present already, {len(self.failures)} failed"
        return f"{head} ({len(self.known)} of them known and not tried again)" if self.known else head

    def __str__(self) -> str:
        """Return counts and one line a failure."""
        return "\n".join([self.summary(), *(f"  {name}: {message}" for name, message in self.failures.items())])


def preprocess(
    dataset: CTRateDataset | RadGenomeDataset,
    workers: int | Literal["auto"] = 0,
    *,
    progress: bool = True,
    shard: Shard | None = None,
    report: str | Path | None = None,
    retry_failed: bool = False,
    max_failures: int | None = None,
    timeout: float | None = None,
    memory_per_worker: float = MEMORY_PER_WORKER,
    engine: Engine = "processes",
    ray_address: str | None = None,
) -> PreprocessResult:
    """Fill a data set's cache; a bad file is reported, and the others go on.

    Interrupted runs go on where they stopped: entries that are present and whole are skipped. A file whose worker
    process dies is tried once more at the end. A file that is bad in itself, or whose worker died twice, is not tried
    again by later runs until the file, the preset or the library's version changes.

    Args:
        dataset: Its samples (every reconstruction) are preprocessed, with their masks of regions where it has them.
        workers: Processes; 0 works in this one, ``auto`` takes every core that this process may use and memory allows.
        progress: Show a bar on a terminal, or a line every 30 seconds elsewhere.
        shard: Do only this part of the samples.
        report: Folder of the list of failures; the cache's own by default.
        retry_failed: Try known bad files again.
        max_failures: Stop after so many failures.
        timeout: Seconds after which a file is given up (not with ``workers=0``, nor with ray).
        memory_per_worker: GiB that a worker is taken to need.
        engine: ``processes`` of this machine, or tasks of a ``ray`` cluster.
        ray_address: Of a running cluster, e.g. ``auto``; without one, ray runs on this machine.

    Raises:
        ConfigError: If the data set has no cache, or an argument is out of range.
        MissingDependencyError: If ray is wanted and not installed.
    """
    if dataset.cache.folder is None:
        cause = "The data set has no cache to fill."
        raise ConfigError(cause, "Pass `cache_dir=` to the data set.")
    count = plan_workers(workers, memory_per_worker).workers
    _check(engine, count, timeout, max_failures)
    dataset.cache.try_writing_again()
    setup = Setup(dataset.preset, dataset.hu_source, dataset.cache, getattr(dataset, "mask_cache", None))
    samples = (shard or Shard()).of(dataset.samples)
    preset = f"{dataset.preset.name}-{dataset.preset.geometry_hash()}"
    with FailureReport(report or dataset.cache.folder, preset) as failures:
        known = {} if retry_failed else _still_known(failures, samples, setup)
        run = _Run(failures, max_failures)
        with Display(len(samples), "Preprocessing", enabled=progress) as display:
            for failure in known.values():
                run.result.known.append(failure.volume)
                run.result.failures[failure.volume] = failure.message
            display.skip(len(known))
            todo = [sample for sample in samples if sample.name.volume_id not in known]
            if engine == "ray":
                outcomes = clustered(todo, setup, address=ray_address, memory_per_worker=memory_per_worker)
            else:
                outcomes = _local(todo, setup, count, timeout)
            run.follow(outcomes, display)
    return run.finish()


class _Run:
    """Sorts outcomes into the result and the report, and decides when to stop."""

    def __init__(self, report: FailureReport, max_failures: int | None) -> None:
        self.result = PreprocessResult()
        self._report = report
        self._listed = report.listed()
        self._max_failures = max_failures
        self._started = time.monotonic()

    def follow(self, outcomes: Generator[Outcome], display: Display) -> None:
        """Take outcomes to the end, or to the first reason to stop."""
        with closing(outcomes):  # ends the workers at once, also on Ctrl-C
            for outcome in outcomes:
                self._take(outcome)
                display.add(outcome)
                if self.result.stopped:
                    return

    def _take(self, outcome: Outcome) -> None:
        """Note one outcome."""
        result = self.result
        if outcome.failure is None:
            (result.made if outcome.state == "made" else result.present).append(outcome.volume)
            if outcome.volume in self._listed:
                self._report.resolved(outcome.volume)
            return
        result.failures[outcome.volume] = outcome.failure.message
        self._report.failed(outcome.failure)
        if outcome.failure.error == CACHE_ERROR:
            result.stopped = outcome.failure.message
        elif self._max_failures is not None and len(result.failures) - len(result.known) >= self._max_failures:
            result.stopped = f"{self._max_failures} files failed, as many as `max_failures` allows."

    def finish(self) -> PreprocessResult:
        """Return the result, in order."""
        result = self.result
        for names in (result.made, result.present, result.known):
            names.sort()
        result.failures = dict(sorted(result.failures.items()))
        result.report = self._report.table if self._report.table.is_file() else None
        result.seconds = time.monotonic() - self._started
        return result


def _local(samples: Sequence[Sample], setup: Setup, workers: int, timeout: float | None) -> Generator[Outcome]:
    """Yield outcomes of this machine."""
    if workers > 0:
        yield from pooled(samples, setup, workers, timeout)
        return
    for sample in samples:
        yield preprocess_one(sample, setup)


def _still_known(report: FailureReport, samples: Sequence[Sample], setup: Setup) -> dict[str, Failure]:
    """Return known failures of samples whose file, metadata and preset are what they were."""
    known = report.known()
    by_name = {sample.name.volume_id: sample for sample in samples if sample.name.volume_id in known}
    return {
        name: known[name]
        for name, sample in by_name.items()
        if known[name].entry and known[name].entry == known_entry(sample, setup)
    }


def _check(engine: str, workers: int, timeout: float | None, max_failures: int | None) -> None:
    """Raise if an argument is out of range."""
    if engine not in get_args(Engine):
        cause = f"Expected `engine` to be one of {', '.join(get_args(Engine))}, but got {engine!r}."
        raise ConfigError(cause, "Use `processes` on one machine, `ray` on a cluster.")
    if timeout is not None and (timeout <= 0 or workers == 0 or engine == "ray"):
        cause = f"A `timeout` of {timeout} cannot be kept with workers={workers} and engine={engine!r}."
        raise ConfigError(cause, "Pass seconds above 0, and let worker processes of this machine do the work.")
    if max_failures is not None and max_failures < 1:
        cause = f"Expected `max_failures` of at least 1, but got {max_failures}."
        raise ConfigError(cause, "Leave it out to go on whatever fails.")
