"""AUROC and average precision of weighted sets of samples, for intervals of a classifier's scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.metrics.functional.inputs import as_label_matrix, as_probability_matrix, check_pairs
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClassifierStatistics:
    """Probabilities and labels; see :func:`classifier_statistics`.

    Args:
        probabilities: Probability of each label.
        labels: 0/1 labels, NaN where unknown.
        label_names: Name of each label.

    Shape:
        - probabilities, labels: ``(N, K)``.
    """

    probabilities: Array
    labels: Array
    label_names: tuple[str, ...]

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def resample(self, weights: Array) -> dict[str, Array]:
        """Return ``macro_auroc``, ``macro_average_precision`` and ``per_label/<label>/<score>`` of weighted sets.

        A label with one class in a set has no score there, and the mean is over the other labels.
        """
        found = [self._rank(column, weights) for column in range(len(self.label_names))]
        scores: dict[str, Array] = {}
        for position, name in enumerate(("auroc", "average_precision")):
            values = np.stack([pair[position] for pair in found])
            known = ~np.isnan(values)
            with np.errstate(invalid="ignore"):
                scores[f"macro_{name}"] = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
            scores.update(
                {f"per_label/{label}/{name}": row for label, row in zip(self.label_names, values, strict=True)}
            )
        return scores

    def _rank(self, column: int, weights: Array) -> tuple[Array, Array]:
        """Return AUROC and average precision of one label."""
        rows = np.flatnonzero(~np.isnan(self.labels[:, column]))
        if not len(rows):
            return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
        order = rows[np.argsort(-self.probabilities[rows, column], kind="stable")]
        ranked, positive = self.probabilities[order, column], self.labels[order, column] == 1
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        chosen = np.asarray(weights, dtype=np.float64)[:, order]
        # samples of one probability cannot be told apart: they are called positive together
        hits = np.add.reduceat(chosen * positive, starts, axis=1)
        alarms = np.add.reduceat(chosen * ~positive, starts, axis=1)
        tp, fp = hits.cumsum(axis=1), alarms.cumsum(axis=1)
        positives, negatives = tp[:, -1], fp[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            auroc = (alarms * (tp - hits / 2)).sum(axis=1) / (positives * negatives)
            precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
            average = (hits * precision).sum(axis=1) / positives
        both = (positives > 0) & (negatives > 0)
        return np.where(both, auroc, np.nan), np.where(both, average, np.nan)


def classifier_statistics(
    probabilities: Any, targets: Any, label_names: Sequence[str] = CT_RATE_LABELS
) -> ClassifierStatistics:
    """Prepare label probabilities for :func:`~ct_vlm.metrics.functional.bootstrap`.

    With all weights 1 the scores are those of :func:`~ct_vlm.metrics.functional.classifier_scores`.

    Args:
        probabilities: Probability of each label.
        targets: 0/1 labels, NaN where unknown.
        label_names: Name of each column.

    Shape:
        - probabilities, targets: ``(B, K)``.

    Raises:
        ShapeError: If sizes differ.
        DatasetError: If a value is out of range.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.functional import classifier_statistics
        >>> statistics = classifier_statistics([[0.1], [0.8], [0.6]], [[0], [1], [0]], ["Nodule"])
        >>> statistics.resample(np.ones((1, 3)))["macro_auroc"].tolist()
        [1.0]
    """
    names = tuple(label_names)
    scored = as_probability_matrix(probabilities, "probabilities", len(names)).double().numpy()
    known = as_label_matrix(targets, "targets", len(names)).double().numpy()
    check_pairs(scored, known)
    return ClassifierStatistics(scored, known, names)
