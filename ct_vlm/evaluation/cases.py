"""Single reports: what was right, missed and invented in each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ct_vlm.evaluation.pairing import Pairs
    from ct_vlm.metrics.functional.overlap import NlgStatistics


@dataclass(frozen=True)
class Case:
    """One report beside its reference.

    Args:
        id: Volume.
        patient: Patient.
        prediction: Predicted report; ``None`` where it is missing.
        reference: True report; ``None`` without one.
        found: Labels that both state.
        missed: Labels that only the reference states.
        invented: Labels that only the prediction states.
        f1: F1 of its labels: 1 where both state none; ``None`` without labels.
        scores: Word-overlap scores of this report alone.
    """

    id: str
    patient: str
    prediction: str | None
    reference: str | None
    found: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    invented: tuple[str, ...] = ()
    f1: float | None = None
    scores: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def make_cases(
    pairs: Pairs,
    statistics: NlgStatistics | None,
    labels: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> list[Case]:
    """Describe every report.

    Args:
        pairs: The reports.
        statistics: Word-overlap statistics of them.
        labels: Predicted and true labels.
    """
    alone = {} if statistics is None else statistics.per_report()
    cases = []
    for row, name in enumerate(pairs.ids):
        predicted, target = (None, None) if labels is None else (labels[0][row] == 1, labels[1][row] == 1)
        cases.append(
            Case(
                id=name,
                patient=pairs.patients[row],
                prediction=None if pairs.predictions is None else pairs.predictions[row],
                reference=None if pairs.references is None else pairs.references[row],
                scores={key: float(values[row]) for key, values in alone.items()},
                **({} if predicted is None or target is None else _differences(predicted, target)),
            )
        )
    return cases


def rank_cases(cases: Sequence[Case], count: int) -> tuple[list[Case], list[Case]]:
    """Return the worst and the best cases, none of them twice.

    Cases are ordered by the F1 of their labels, then by the number of labels at stake (so that the
    best is a rich report that is right, not an empty one, and the worst one that is wrong in much),
    then by ROUGE-L (or BLEU-1).

    Args:
        cases: From :func:`make_cases`.
        count: Most cases of either kind.
    """
    ordered = sorted(cases, key=_quality)
    worst = ordered[: min(count, (len(ordered) + 1) // 2)]
    best = ordered[max(len(worst), len(ordered) - count) :]
    return worst, best[::-1]


def _quality(case: Case) -> tuple[float, float, float, str]:
    """Return what cases are ordered by."""
    stakes = len(case.found) + len(case.missed) + len(case.invented)
    f1 = 0.0 if case.f1 is None else case.f1
    overlap = case.scores.get("rouge_l", case.scores.get("bleu_1", 0.0))
    return (f1, stakes if f1 > 0 else -stakes, overlap, case.id)


def _differences(predicted: NDArray[np.bool_], target: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the labels that both, only the reference and only the prediction state, and F1."""
    sets = (predicted & target, ~predicted & target, predicted & ~target)
    found, missed, invented = (tuple(CT_RATE_LABELS[i] for i in np.flatnonzero(cells)) for cells in sets)
    wrong = len(missed) + len(invented)
    f1 = 2 * len(found) / (2 * len(found) + wrong) if found or wrong else 1.0
    return {"found": found, "missed": missed, "invented": invented, "f1": f1}
