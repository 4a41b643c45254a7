"""Hours and bytes of a run before it starts, from a few measured volumes."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.datasets.preprocessing.shards import Shard
from ct_vlm.datasets.preprocessing.work import Setup, entry_path, is_present, preprocess_one, size_of
from ct_vlm.errors import ConfigError, CTVLMError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.datasets.ct_rate import CTRateDataset
    from ct_vlm.datasets.preprocessing.outcome import Outcome
    from ct_vlm.datasets.radgenome import RadGenomeDataset
    from ct_vlm.datasets.sample import Sample


@dataclass(frozen=True)
class Estimate:
    """What :func:`estimate` expects.

    Args:
        preset: Name of the preprocessing.
        volumes: In the data set (or shard).
        present: In the cache already.
        measured: Volumes that were measured.
        source_bytes: Of the files to do.
        cpu_seconds: For the volumes to do, on one core.
        entry_bytes: Of the entries to make.

    Example:
        >>> from ct_vlm.datasets.preprocessing import Estimate
        >>> plan = Estimate("uvlm", 1000, 0, 5, 40 * 10**9, 720.0, 30 * 10**9)
        >>> plan.hours(workers=2), plan.scaled(50_000).hours(workers=10)
        (0.1, 1.0)
    """

    preset: str
    volumes: int
    present: int
    measured: int
    source_bytes: float
    cpu_seconds: float
    entry_bytes: float

    @property
    def todo(self) -> int:
        """Volumes that are not in the cache."""
        return self.volumes - self.present

    def hours(self, workers: int, machines: int = 1, efficiency: float = 1.0) -> float:
        """Return the hours that the volumes to do take.

        Args:
            workers: Processes a machine, each with a core of its own.
            machines: Number of machines.
            efficiency: Share of the ideal speed-up that is reached.
        """
        return self.cpu_seconds / (workers * machines * efficiency) / 3600

    def scaled(self, volumes: int) -> Estimate:
        """Return the estimate for another number of such volumes, none of them present.

        Args:
            volumes: How many, e.g. 50,188 for all of CT-RATE.
        """
        factor = volumes / self.todo if self.todo else 0.0
        return Estimate(
            self.preset,
            volumes,
            0,
            self.measured,
            self.source_bytes * factor,
            self.cpu_seconds * factor,
            self.entry_bytes * factor,
        )


def estimate(dataset: CTRateDataset | RadGenomeDataset, *, shard: Shard | None = None, measure: int = 5) -> Estimate:
    """Measure a few volumes and say what the rest will take; the data set's own cache is only read.

    The measured ones lie evenly between the smallest and the largest file. Seconds are taken to follow the size of
    the file, the size of an entry to be what the measured ones have on average. Files that cannot be read are left out.
    Masks of regions are not counted. Only CPU time is: disks or a network that cannot keep up add to it.

    Args:
        dataset: With a cache.
        shard: Only this part.
        measure: How many volumes to measure.

    Raises:
        ConfigError: If the data set has no cache, or ``measure`` is below 1.
        DatasetError: If none of the chosen volumes can be preprocessed.
    """
    if dataset.cache.folder is None or measure < 1:
        cause = f"An estimate needs a cache folder and at least one volume, but got {dataset.cache.folder}, {measure}."
        raise ConfigError(cause, "Pass `cache_dir=` to the data set.")
    setup = Setup(dataset.preset, dataset.hu_source, dataset.cache)
    samples = (shard or Shard()).of(dataset.samples)
    todo = [sample for sample in samples if not _has_entry(sample, setup)]
    outcomes = _measure(_spread(todo, measure), setup) if todo else []
    source = sum(size_of(sample.path) for sample in todo)
    read = sum(outcome.source_bytes for outcome in outcomes)
    return Estimate(
        preset=dataset.preset.name,
        volumes=len(samples),
        present=len(samples) - len(todo),
        measured=len(outcomes),
        source_bytes=source,
        cpu_seconds=sum(outcome.cpu_seconds for outcome in outcomes) * source / read if read else 0.0,
        entry_bytes=sum(outcome.entry_bytes for outcome in outcomes) * len(todo) / max(1, len(outcomes)),
    )


def _has_entry(sample: Sample, setup: Setup) -> bool:
    """Tell whether a sample is in the cache; one whose file is gone is not."""
    try:
        return is_present(entry_path(sample, setup), setup)
    except CTVLMError:
        return False


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return samples whose files lie evenly between the smallest and the largest."""
    by_size = sorted(samples, key=lambda sample: (size_of(sample.path), sample.name.volume_id))
    wanted = min(count, len(by_size))
    return [by_size[(2 * step + 1) * len(by_size) // (2 * wanted)] for step in range(wanted)]


def _measure(samples: Sequence[Sample], setup: Setup) -> list[Outcome]:
    """Preprocess samples into a cache that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        cache = copy.copy(setup.cache)
        cache.folder = Path(folder)
        outcomes = [preprocess_one(sample, Setup(setup.preset, setup.hu_source, cache)) for sample in samples]
    made = [outcome for outcome in outcomes if outcome.failure is None]
    if not made:
        reason = outcomes[0].failure
        cause = f"None of {len(outcomes)} volumes can be measured; the first: {reason.cause if reason else ''}"
        raise DatasetError(cause, "Run without `--dry-run` for the list of what is wrong.")
    return made
