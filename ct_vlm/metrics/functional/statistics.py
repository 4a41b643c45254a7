"""What a corpus score is made of: one row a report, so that any resample is scored by a matrix product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional.clinical import average_scores, count_rows, sum_rows
from ct_vlm.metrics.functional.ratios import NAMES, crg_of_counts
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@runtime_checkable
class Statistics(Protocol):
    """Counts of each report from which corpus scores are computed."""

    @property
    def num_samples(self) -> int:
        """Number of reports."""

    def resample(self, weights: Array) -> dict[str, Array]:
        """Return every score of several weighted sets of reports.

        Args:
            weights: How often each report is in each set.

        Shape:
            - weights: ``(R, N)``.
            - Output: ``(R,)`` each.
        """


@dataclass(frozen=True)
class ClinicalStatistics:
    """Counts of labels; see :func:`clinical_statistics`.

    Args:
        counts: Output of :func:`~ct_vlm.metrics.functional.clinical.count_rows`.
        rows: Input row that each of them begins with.
        label_names: Name of each label.
        zero_division: Value of a ratio with denominator 0.

    Shape:
        - counts: ``(N, 4 K + 10)``.
        - rows: ``(N,)``.
    """

    counts: Array
    rows: NDArray[np.int64]
    label_names: tuple[str, ...]
    zero_division: float = 0.0

    @property
    def num_samples(self) -> int:
        """Number of reports (or scans)."""
        return len(self.counts)

    def resample(self, weights: Array) -> dict[str, Array]:
        """Return the averages, ``crg`` and ``per_label/<label>/<score>`` of weighted sets of reports."""
        sums = sum_rows(weights @ self.counts, len(self.label_names))
        averages, per_label = average_scores(sums, self.zero_division)
        scores = {
            f"{average}_{name}": values[..., i] for average, values in averages.items() for i, name in enumerate(NAMES)
        }
        cells = sums.per_label.sum(axis=-2)
        scores["crg"] = crg_of_counts(cells[..., 0], cells[..., 3], cells[..., 1], cells.sum(axis=-1))
        for column, label in enumerate(self.label_names):
            scores.update({f"per_label/{label}/{name}": per_label[..., column, i] for i, name in enumerate(NAMES)})
        return scores


def clinical_statistics(
    predictions: Any,
    targets: Any,
    label_names: Sequence[str] = CT_RATE_LABELS,
    *,
    zero_division: float = 0.0,
    scans: Sequence[Hashable] | None = None,
    group_by: str | None = None,
) -> ClinicalStatistics:
    """Count labels report by report, for :func:`~ct_vlm.metrics.functional.bootstrap`.

    Args:
        predictions: 0/1 labels; missing predictions count as negative.
        targets: 0/1 labels, NaN where unknown.
        label_names: Name of each column.
        zero_division: As in :func:`~ct_vlm.metrics.functional.clinical_scores`.
        scans: Scan of each row, to score scans rather than volumes.
        group_by: ``"first"``, ``"any"`` or ``"mean"``.

    Shape:
        - predictions, targets: ``(B, K)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.functional import clinical_statistics
        >>> statistics = clinical_statistics([[1, 0], [1, 1]], [[1, 0], [0, 1]], ["Nodule", "Effusion"])
        >>> statistics.resample(np.array([[1.0, 1.0], [2.0, 0.0]]))["micro_f1"].round(3).tolist()
        [0.8, 1.0]
    """
    names = tuple(label_names)
    counts, rows = count_rows(predictions, targets, len(names), zero_division, scans, group_by)
    return ClinicalStatistics(counts, rows, names, zero_division)


@dataclass(frozen=True)
class MeanStatistics:
    """Scores that are means over reports, e.g. those of an outside scorer.

    Args:
        values: Score of each report, by name; NaN where a report has none (it is left out).

    Shape:
        - values: ``(N,)`` each.

    Raises:
        ShapeError: If lengths differ.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.functional import MeanStatistics
        >>> MeanStatistics({"green": np.array([0.25, 0.75])}).resample(np.array([[1.0, 1.0]]))["green"].item()
        0.5
    """

    values: Mapping[str, Array]

    def __post_init__(self) -> None:
        """Check that all scores have one length."""
        sizes = {name: len(values) for name, values in self.values.items()}
        if len(set(sizes.values())) != 1:
            cause = f"Expected one or more scores of one length, but got {sizes}."
            raise ShapeError(cause, "Pass one value a report, NaN where it has none.")

    @property
    def num_samples(self) -> int:
        """Number of reports."""
        return len(next(iter(self.values.values())))

    def resample(self, weights: Array) -> dict[str, Array]:
        """Return weighted means."""
        scores = {}
        for name, given in self.values.items():
            values = np.asarray(given, dtype=np.float64)
            known = ~np.isnan(values)
            with np.errstate(invalid="ignore", divide="ignore"):
                scores[name] = weights @ np.where(known, values, 0.0) / (weights @ known.astype(float))
        return scores


@dataclass(frozen=True)
class CombinedStatistics:
    """Several kinds of scores of the same reports.

    Args:
        parts: Statistics over the same reports in the same order.

    Raises:
        ShapeError: If they are not of one length.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.functional import CombinedStatistics, MeanStatistics
        >>> both = CombinedStatistics([MeanStatistics({"a": np.ones(3)}), MeanStatistics({"b": np.zeros(3)})])
        >>> sorted(both.resample(np.ones((1, 3))))
        ['a', 'b']
    """

    parts: Sequence[Statistics]

    def __post_init__(self) -> None:
        """Check that all parts have one length."""
        sizes = [part.num_samples for part in self.parts]
        if len(set(sizes)) != 1:
            cause = f"Expected statistics of the same reports, but their lengths are {sizes}."
            raise ShapeError(cause, "Compute all of them from the same list of reports.")

    @property
    def num_samples(self) -> int:
        """Number of reports."""
        return self.parts[0].num_samples

    def resample(self, weights: Array) -> dict[str, Array]:
        """Return the scores of all parts."""
        scores: dict[str, Array] = {}
        for part in self.parts:
            found = part.resample(weights)
            if clash := sorted(scores.keys() & found.keys()):
                cause = f"Several statistics compute {clash}."
                raise ConfigError(cause, "Rename the scores of one of them.")
            scores.update(found)
        return scores


def concatenate(first: Any, second: Any) -> Any:
    """Join the rows of two statistics of one kind and the same settings.

    Args:
        first: Statistics of some reports.
        second: Statistics of others.

    Raises:
        DatasetError: If they are not of one kind, or of a kind whose rows cannot be joined.
    """
    if isinstance(first, CombinedStatistics) and isinstance(second, CombinedStatistics):
        return CombinedStatistics([concatenate(a, b) for a, b in zip(first.parts, second.parts, strict=True)])
    if isinstance(first, MeanStatistics) and isinstance(second, MeanStatistics):
        return MeanStatistics({k: np.concatenate([v, second.values[k]]) for k, v in first.values.items()})
    if isinstance(first, ClinicalStatistics) and isinstance(second, ClinicalStatistics):
        counts, rows = np.concatenate([first.counts, second.counts]), np.concatenate([first.rows, second.rows])
        return replace(first, counts=counts, rows=rows)
    cause = f"Cannot join {type(first).__name__} and {type(second).__name__}."
    raise DatasetError(cause, "Compute statistics of both systems' reports in one list and pass them as `pooled`.")
