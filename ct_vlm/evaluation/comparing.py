"""Two systems on the same reports: differences with intervals and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.errors import DatasetError
from ct_vlm.evaluation.values import json_values
from ct_vlm.metrics.functional import nlg_statistics, paired_difference, permutation_test
from ct_vlm.metrics.functional.nlg import choose_families
from ct_vlm.metrics.functional.overlap import RESAMPLED

if TYPE_CHECKING:
    from ct_vlm.evaluation.pairing import Pairs
    from ct_vlm.evaluation.scoring import Evaluation, Settings

_PERMUTED = ("bleu_4", "bleu_mean", "rouge_l", "cider", "micro_f1", "macro_f1", "weighted_f1", "samples_f1", "crg")


def compare(
    first: tuple[Pairs, Evaluation], second: tuple[Pairs, Evaluation], settings: Settings, n_permutations: int = 1000
) -> dict[str, Any]:
    """Return by how much the first system scores above the second.

    Both are resampled over the same patients, so that what is hard for both cancels out. The p-value
    of ``permutation`` comes from swapping which system wrote a patient's reports; it holds its level
    in small samples, the bootstrap's does so only roughly.

    Args:
        first: Reports and scores of the first system.
        second: Reports and scores of the second, against the same references.
        settings: As both were scored.
        n_permutations: Swaps to try; 0 for none.

    Returns:
        ``difference``: score to ``value``, ``low``, ``high`` and ``p_value``; ``permutation``: score
        to p-value, for the averages; ``notes``: why both are empty, if they are.

    Raises:
        DatasetError: If the systems were not scored on the same reports.
    """
    (pairs, one), (others, two) = first, second
    if pairs.ids != others.ids:
        cause = f"The systems were scored on {len(pairs.ids)} and {len(others.ids)} reports, which differ."
        raise DatasetError(cause, "Score both against the same references.")
    if len(set(pairs.patients)) < 2:
        note = "no intervals or tests: they are drawn over patients, and there is only one"
        return {"difference": {}, "permutation": {}, "n_permutations": 0, "notes": [note]}
    differences: dict[str, Any] = {}
    p_values: dict[str, float | None] = {}
    for a, b, rows, pooled in _kinds(pairs, others, one, two, settings):
        patients = [pairs.patients[row] for row in rows]
        found = paired_difference(
            a,
            b,
            patients,
            n_resamples=max(settings.n_resamples, 2),
            confidence=settings.confidence,
            seed=settings.seed,
            progress=settings.progress,
        )
        differences |= {name: interval.to_dict() for name, interval in found.scores.items()}
        if n_permutations:
            tested = permutation_test(
                a,
                b,
                patients,
                n_permutations=n_permutations,
                seed=settings.seed,
                pooled=pooled,
                progress=settings.progress,
            )
            p_values |= {name: value for name, value in tested.p_values.items() if name in _PERMUTED}
    return dict(
        json_values({"difference": differences, "permutation": p_values, "n_permutations": n_permutations, "notes": []})
    )


def _kinds(pairs: Pairs, others: Pairs, one: Evaluation, two: Evaluation, settings: Settings) -> list[Any]:
    """Return the statistics that both systems have, with their rows and what permutations need."""
    kinds: list[Any] = []
    if one.text_statistics is not None and two.text_statistics is not None:
        # rarities of CIDEr and counts of n-grams are numbered over both systems' texts
        texts = [*(pairs.predictions or ()), *(others.predictions or ())]
        truths = list(pairs.references or ()) * 2
        families = choose_families(settings.metrics, settings.bertscore_model)
        pooled = nlg_statistics(texts, truths, settings.protocol, [name for name in families if name in RESAMPLED])
        kinds.append((one.text_statistics, two.text_statistics, range(len(pairs.ids)), pooled))
    if one.label_statistics is not None and two.label_statistics is not None:
        kinds.append((one.label_statistics, two.label_statistics, one.label_statistics.rows, None))
    return kinds
