"""Do two systems differ at all? Swap their reports patient by patient and see."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional.inputs import as_groups
from ct_vlm.metrics.functional.resampling import check_same_length
from ct_vlm.metrics.functional.statistics import concatenate
from ct_vlm.metrics.progress import track

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.functional.statistics import Statistics

    Array = NDArray[np.float64]

_BLOCK_CELLS = 2_000_000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PermutationResult:
    """Differences of two systems and how often chance alone makes one as large.

    Args:
        differences: Score of system A minus that of system B.
        p_values: Two-sided p-value of each; None where the score is undefined.
        exact: Whether all ways to swap were tried.
        n_permutations: Number of ways that were tried.
        seed: Seed of the swaps.
        num_reports: Number of reports.
        num_patients: Number of patients; whole patients are swapped.
    """

    differences: dict[str, float]
    p_values: dict[str, float | None]
    exact: bool
    n_permutations: int
    seed: int
    num_reports: int
    num_patients: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = {k: None if math.isnan(v) else v for k, v in self.differences.items()}
        return {**asdict(self), "differences": values}


def permutation_test(
    system_a: Statistics,
    system_b: Statistics,
    patients: Sequence[Hashable],
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
    pooled: Statistics | None = None,
    progress: bool = False,
) -> PermutationResult:
    """Test whether two systems differ, by swapping which of them wrote a patient's reports.

    If the systems do not differ, each patient's pair of reports could as well be the other way
    round. All reports of a patient are swapped together; corpus scores are computed anew. All
    ``2 ** patients`` ways are tried where they are no more than ``n_permutations`` (then the test is
    exact), else random ones with p = (1 + count) / (1 + n).

    Args:
        system_a: Statistics of the first system.
        system_b: Statistics of the second, of the same reports in the same order.
        patients: Patient of each report.
        n_permutations: Most ways to try.
        seed: Seed of the random swaps.
        pooled: Statistics of all reports of A followed by those of B. Needed only for kinds whose rows
            cannot be joined afterwards, such as :func:`~ct_vlm.metrics.functional.nlg_statistics`.
        progress: Show a progress bar on a terminal.

    Shape:
        - patients: ``(N,)``.

    Raises:
        ShapeError: If the systems have different numbers of reports.
        DatasetError: If there is no report.
        ConfigError: If ``n_permutations`` is not positive.

    Example:
        >>> from ct_vlm.metrics.functional import clinical_statistics, permutation_test
        >>> truth = [[1], [1], [1], [1]]
        >>> a = clinical_statistics(truth, truth, ["Nodule"])
        >>> b = clinical_statistics([[0], [0], [0], [0]], truth, ["Nodule"])
        >>> permutation_test(a, b, ["a", "b", "c", "d"]).p_values["micro_recall"]
        0.125
    """
    check_same_length(system_a, system_b)
    index, names = as_groups(patients, system_a.num_samples, "patients")
    if not names or n_permutations < 1:
        cause = f"Cannot test {len(index)} reports with {n_permutations} permutations."
        raise (ConfigError if names else DatasetError)(cause, "Pass reports, and e.g. `n_permutations=10_000`.")
    exact = len(names) < 62 and 2 ** len(names) <= n_permutations
    count = 2 ** len(names) if exact else n_permutations
    pooled = concatenate(system_a, system_b) if pooled is None else pooled
    if pooled.num_samples != 2 * len(index):
        cause = f"Expected `pooled` with {2 * len(index)} reports, but it has {pooled.num_samples}."
        raise ShapeError(cause, "Pass the reports of A followed by those of B.")
    block = max(1, _BLOCK_CELLS // (2 * len(index)))
    observed = _differences(pooled, np.zeros((1, len(index))))
    reached = dict.fromkeys(observed, 0)
    swaps = _exact_swaps(len(names), block) if exact else _random_swaps(len(names), count, block, seed)
    for swap in track(swaps, "Swapping systems", show=progress, total=math.ceil(count / block)):
        for name, values in _differences(pooled, swap[:, index]).items():
            reached[name] += int(np.count_nonzero(np.abs(values) >= abs(observed[name][0]) - _ROUNDING))
    extra = 0 if exact else 1
    return PermutationResult(
        differences={name: float(values[0]) for name, values in observed.items()},
        p_values={
            name: None if np.isnan(observed[name][0]) else (times + extra) / (count + extra)
            for name, times in reached.items()
        },
        exact=exact,
        n_permutations=count,
        seed=seed,
        num_reports=len(index),
        num_patients=len(names),
    )


def _differences(pooled: Statistics, swap: Array) -> dict[str, Array]:
    """Return the scores of A minus those of B after swaps, from the statistics of both."""
    keep = 1 - swap
    a = pooled.resample(np.concatenate([keep, swap], axis=1))
    b = pooled.resample(np.concatenate([swap, keep], axis=1))
    return {name: a[name] - b[name] for name in a}


def _exact_swaps(num_patients: int, block: int) -> Iterator[Array]:
    """Yield all ways to swap patients."""
    bits = np.arange(num_patients)
    for start in range(0, 2**num_patients, block):
        ways = np.arange(start, min(start + block, 2**num_patients))
        yield ((ways[:, None] >> bits) & 1).astype(np.float64)


def _random_swaps(num_patients: int, count: int, block: int, seed: int) -> Iterator[Array]:
    """Yield random ways to swap patients."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, block):
        yield rng.integers(2, size=(min(block, count - start), num_patients)).astype(np.float64)
