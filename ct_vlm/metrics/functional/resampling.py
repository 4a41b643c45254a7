"""How certain a corpus score is: bootstrap over patients, for one system and for the difference of two."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional.inputs import as_groups
from ct_vlm.metrics.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.functional.statistics import Statistics

    Array = NDArray[np.float64]
    Scores = dict[str, Array]

METHODS = ("percentile", "bca")
_BLOCK_CELLS = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval.

    Args:
        value: The score of all reports.
        low: Lower end; None where the score is undefined.
        high: Upper end.
        standard_error: Standard deviation over the resamples.
        undefined: Resamples in which the score is undefined; they are left out.
        p_value: Of a difference: two-sided, for the hypothesis that there is none.
    """

    value: float
    low: float
    high: float
    standard_error: float
    undefined: int = 0
    p_value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; what is undefined is None."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class BootstrapResult:
    """Scores with intervals, and how they were made.

    Args:
        scores: Interval of each score.
        method: ``"percentile"`` or ``"bca"``.
        confidence: Nominal coverage.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.
        num_reports: Number of reports (or scans).
        num_patients: Number of patients; whole patients are drawn.
        comparison: ``"paired difference"`` if the scores are differences of two systems.
    """

    scores: dict[str, Interval]
    method: str
    confidence: float
    n_resamples: int
    seed: int
    num_reports: int
    num_patients: int
    comparison: str | None = None

    def __getitem__(self, name: str) -> Interval:
        """Return the interval of one score."""
        return self.scores[name]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "scores": {name: interval.to_dict() for name, interval in self.scores.items()}}


def bootstrap(
    statistics: Statistics,
    patients: Sequence[Hashable],
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: str = "percentile",
    progress: bool = False,
) -> BootstrapResult:
    """Return every score with a confidence interval.

    Whole patients are drawn with replacement, because the volumes of one patient resemble each
    other; drawing reports one by one would give intervals that are too narrow. A corpus score is
    computed anew from the counts of each resample.

    Args:
        statistics: E.g. :func:`~ct_vlm.metrics.functional.clinical_statistics`.
        patients: Patient of each report.
        n_resamples: Number of resamples.
        confidence: Nominal coverage.
        seed: Seed of the resamples; two systems with one seed get the same ones.
        method: ``"percentile"``, or ``"bca"``: corrected for bias and acceleration, which costs one
            more evaluation a patient.
        progress: Show a progress bar on a terminal.

    Shape:
        - patients: ``(N,)``.

    Raises:
        ShapeError: If ``patients`` is not one a report.
        DatasetError: If there are fewer than two patients.
        ConfigError: If a setting is out of range.

    Example:
        >>> from ct_vlm.metrics.functional import bootstrap, clinical_statistics
        >>> statistics = clinical_statistics([[1], [0], [1], [1]], [[1], [0], [0], [1]], ["Nodule"])
        >>> found = bootstrap(statistics, ["a", "a", "b", "c"], n_resamples=200)["micro_precision"]
        >>> round(found.value, 2), found.low <= found.value <= found.high
        (0.67, True)

    References:
        [1] Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (BCa: section 14.3).
    """
    draws = _Draws(statistics.num_samples, patients, n_resamples, seed, progress)
    intervals = _intervals(draws, statistics.resample, confidence, method)
    return _result(draws, intervals, confidence, method)


def paired_difference(
    system_a: Statistics,
    system_b: Statistics,
    patients: Sequence[Hashable],
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: str = "percentile",
    progress: bool = False,
) -> BootstrapResult:
    """Return by how much system A scores above system B, with intervals over the same resamples.

    The p-value is the bootstrap's: twice the smaller share of resamples on either side of zero,
    ``2 (1 + count) / (1 + resamples)``, at most 1. :func:`permutation_test` gives one that holds
    its level in small samples.

    Args:
        system_a: Statistics of the first system.
        system_b: Statistics of the second, of the same reports in the same order.
        patients: Patient of each report.
        n_resamples: Number of resamples.
        confidence: Nominal coverage.
        seed: Seed of the resamples.
        method: ``"percentile"`` or ``"bca"``.
        progress: Show a progress bar on a terminal.

    Shape:
        - patients: ``(N,)``.

    Raises:
        ShapeError: If the systems have different numbers of reports.

    Example:
        >>> from ct_vlm.metrics.functional import clinical_statistics, paired_difference
        >>> truth = [[1], [0], [1], [1]]
        >>> a = clinical_statistics(truth, truth, ["Nodule"])
        >>> b = clinical_statistics([[0], [0], [1], [1]], truth, ["Nodule"])
        >>> round(paired_difference(a, b, ["a", "b", "c", "d"], n_resamples=200)["micro_recall"].value, 2)
        0.33
    """
    check_same_length(system_a, system_b)
    draws = _Draws(system_a.num_samples, patients, n_resamples, seed, progress)

    def difference(weights: Array) -> Scores:
        a, b = system_a.resample(weights), system_b.resample(weights)
        return {name: a[name] - b[name] for name in a if name in b}

    intervals = _intervals(draws, difference, confidence, method, test=True)
    return _result(draws, intervals, confidence, method, "paired difference")


def check_same_length(system_a: Statistics, system_b: Statistics) -> None:
    """Check that two systems are of the same reports.

    Args:
        system_a: Statistics of the first system.
        system_b: Statistics of the second.

    Raises:
        ShapeError: If they have different numbers of reports.
    """
    if system_a.num_samples != system_b.num_samples:
        cause = f"System A has {system_a.num_samples} reports and system B {system_b.num_samples}."
        raise ShapeError(cause, "Compare systems on the same reports in the same order.")


class _Draws:
    """Resamples of patients as weights of reports, a bounded block at a time."""

    def __init__(
        self, num_reports: int, patients: Sequence[Hashable], n_resamples: int, seed: int, progress: bool
    ) -> None:
        self.index, names = as_groups(patients, num_reports, "patients")
        self.num_reports, self.num_patients = num_reports, len(names)
        self.n_resamples, self.seed, self.progress = n_resamples, seed, progress
        if self.num_patients < 2:
            cause = f"{num_reports} reports of {self.num_patients} patient(s) cannot be resampled over patients."
            raise DatasetError(cause, "Pass reports of two or more patients.")
        if n_resamples < 2:
            cause = f"Expected at least 2 resamples, but got {n_resamples}."
            raise ConfigError(cause, "1,000 is usual.")

    def run(self, score: Callable[[Array], Scores]) -> Scores:
        """Return the scores of all resamples."""
        return _join(score(weights) for weights in self._bar(self._drawn(), "Resampling patients", self.n_resamples))

    def leave_one_out(self, score: Callable[[Array], Scores]) -> Scores:
        """Return the scores without each patient in turn."""
        return _join(score(weights) for weights in self._bar(self._left_out(), "Jackknife", self.num_patients))

    def _bar(self, blocks: Iterator[Array], description: str, count: int) -> Any:
        return track(blocks, description, show=self.progress, total=math.ceil(count / self._block()))

    def _block(self) -> int:
        return max(1, _BLOCK_CELLS // max(self.num_reports, self.num_patients))

    def _drawn(self) -> Iterator[Array]:
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.n_resamples, self._block()):
            size = min(self._block(), self.n_resamples - start)
            drawn = rng.integers(self.num_patients, size=(size, self.num_patients))
            drawn += self.num_patients * np.arange(size)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=size * self.num_patients).astype(np.float64)
            yield counts.reshape(size, self.num_patients)[:, self.index]

    def _left_out(self) -> Iterator[Array]:
        for start in range(0, self.num_patients, self._block()):
            left = np.arange(start, min(start + self._block(), self.num_patients))
            yield (left[:, None] != self.index[None, :]).astype(np.float64)


def _join(blocks: Iterator[Scores]) -> Scores:
    """Concatenate the scores of blocks."""
    found = list(blocks)
    return {name: np.concatenate([block[name] for block in found]) for name in found[0]}


def _result(
    draws: _Draws, intervals: dict[str, Interval], confidence: float, method: str, comparison: str | None = None
) -> BootstrapResult:
    return BootstrapResult(
        intervals, method, confidence, draws.n_resamples, draws.seed, draws.num_reports, draws.num_patients, comparison
    )


def _intervals(
    draws: _Draws, score: Callable[[Array], Scores], confidence: float, method: str, *, test: bool = False
) -> dict[str, Interval]:
    """Return the interval of each score."""
    if method not in METHODS or not 0 < confidence < 1:
        cause = f"Expected `method` in {METHODS} and `confidence` in (0, 1), but got {method!r} and {confidence}."
        raise ConfigError(cause, "Use e.g. method='percentile', confidence=0.95.")
    whole = {name: float(values[0]) for name, values in score(np.ones((1, draws.num_reports))).items()}
    replicates = draws.run(score)
    left_out = draws.leave_one_out(score) if method == "bca" else {}
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    return {
        name: _interval(value, replicates[name], tails, left_out.get(name), test=test) for name, value in whole.items()
    }


def _interval(value: float, replicates: Array, tails: Array, left_out: Array | None, *, test: bool) -> Interval:
    """Return one interval out of replicates."""
    known = replicates[~np.isnan(replicates)]
    undefined = len(replicates) - len(known)
    if math.isnan(value) or not len(known):
        return Interval(value, math.nan, math.nan, math.nan, undefined)
    levels = tails if left_out is None else _bca_levels(value, known, left_out, tails)
    low, high = np.quantile(known, levels)
    side = 1 + min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    p_value = min(1.0, 2 * int(side) / (1 + len(known))) if test else None
    return Interval(
        value, float(low), float(high), float(known.std(ddof=1) if len(known) > 1 else 0), undefined, p_value
    )


def _bca_levels(value: float, known: Array, left_out: Array, tails: Array) -> Array:
    """Return the quantiles that correct for bias and acceleration; the plain ones where those are undefined."""
    below = (np.count_nonzero(known < value) + np.count_nonzero(known <= value)) / (2 * len(known))
    spread = np.nanmean(left_out) - left_out[~np.isnan(left_out)]
    power = float((spread**2).sum()) ** 1.5
    if not 0 < below < 1 or power == 0:
        return tails
    bias, acceleration = ndtri(below), float((spread**3).sum()) / (6 * power)
    moved = bias + ndtri(tails)
    return np.asarray(ndtr(bias + moved / (1 - acceleration * moved)))
