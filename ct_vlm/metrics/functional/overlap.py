"""Word-overlap statistics of each report, from which any resample of the reports is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.metrics.functional.bleu import bleu_counts, bleu_rows, coco_bleu, smoothed_bleu
from ct_vlm.metrics.functional.cider import CiderTerms, cider_terms
from ct_vlm.metrics.functional.inputs import as_predicted_texts, as_reference_texts, check_pairs
from ct_vlm.metrics.functional.ngrams import count_ngrams, text_lengths
from ct_vlm.metrics.functional.protocols import Protocol, get_protocol
from ct_vlm.metrics.functional.rouge import coco_rouge_l, rouge_f1
from ct_vlm.metrics.functional.words import white_space_words

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

RESAMPLED = ("bleu", "rouge", "cider")
"""Families of scores that statistics can hold."""


@dataclass(frozen=True)
class NlgStatistics:
    """What BLEU, ROUGE and CIDEr need of each report; see :func:`nlg_statistics`.

    Attributes:
        protocol: Name of the protocol.
        num_samples: Number of reports N.
        missing_predictions: How many predictions are missing (they count as empty).
        bleu: Counts that add over reports; see :func:`ct_vlm.metrics.functional.bleu.bleu_counts`.
        rouge: Name to the score of each report.
        cider: Terms of CIDEr, whose rarities depend on the set of reports.

    Shape:
        - bleu: ``(N, 10)``.
        - rouge: ``(N,)`` each.
    """

    protocol: str
    num_samples: int
    missing_predictions: int
    bleu: NDArray[np.int64] | None
    rouge: dict[str, NDArray[np.float64]]
    cider: CiderTerms | None

    def __len__(self) -> int:
        """Return the number of reports."""
        return self.num_samples

    @property
    def families(self) -> tuple[str, ...]:
        """Families of scores that were counted."""
        held = {"bleu": self.bleu is not None, "rouge": bool(self.rouge), "cider": self.cider is not None}
        return tuple(name for name in RESAMPLED if held[name])

    def scores(self) -> dict[str, float]:
        """Return the scores of all reports, each counted once."""
        return {name: float(values[0]) for name, values in self.resample(np.ones((1, self.num_samples))).items()}

    def resample(self, weights: Any) -> dict[str, NDArray[np.float64]]:
        """Return the scores of resampled sets of reports.

        BLEU is computed from the summed counts of each set, ROUGE as the mean over its reports,
        CIDEr with the rarities of its references: each exactly what the set would score by itself.

        Args:
            weights: How often each report is in each set; for a bootstrap over patients, the number
                of times its patient was drawn.

        Returns:
            ``bleu_1`` to ``bleu_4``, ``bleu_mean``, ``rouge_l``, ``cider`` and what else the protocol
            has, in the names of :func:`~ct_vlm.metrics.functional.nlg_scores`; 0 for an empty set.

        Shape:
            - weights: ``(R, N)``.
            - Output: ``(R,)`` each.

        Raises:
            ShapeError: If there is not one non-negative weight a report.

        Example:
            >>> import numpy as np
            >>> from ct_vlm.metrics.functional import nlg_statistics
            >>> texts = ["No nodule.", "Heart size increased.", "No effusion."]
            >>> statistics = nlg_statistics(["No nodule.", "Normal.", "No effusion."], texts)
            >>> statistics.resample(np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]]))["rouge_l"].round(2).tolist()
            [0.67, 1.0, 0.0]
        """
        counted = _as_weights(weights, self.num_samples)
        sizes = np.maximum(1.0, counted.sum(1))
        scores = {} if self.bleu is None else self._resample_bleu(self.bleu, counted, sizes)
        scores |= {name: counted @ values / sizes for name, values in self.rouge.items()}
        if self.cider is not None:
            scores["cider"] = self.cider.resample(counted)
        return scores

    def per_report(self) -> dict[str, NDArray[np.float64]]:
        """Return the scores of each report; CIDEr with the rarities of the whole set.

        Corpus BLEU is not the mean of the BLEU of single reports.

        Shape:
            - Output: ``(N,)`` each.
        """
        scores = {} if self.bleu is None else _bleu(self.bleu, self.protocol)
        scores |= self.rouge
        return scores if self.cider is None else {**scores, "cider": self.cider.per_report()}

    def _resample_bleu(
        self, counts: NDArray[np.int64], weights: NDArray[np.float64], sizes: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Score summed counts; under ``hf_evaluate`` also the mean over reports, which its source prints first."""
        scores = _bleu(weights @ counts, self.protocol)
        if get_protocol(self.protocol).smoothed:
            rows = _bleu(counts, self.protocol)
            del rows["bleu_mean"]
            scores |= {f"{name}_report_mean": weights @ values / sizes for name, values in rows.items()}
        return scores


def nlg_statistics(
    predictions: Sequence[str | None],
    references: Sequence[str],
    protocol: str = "vlm3d",
    metrics: Collection[str] = RESAMPLED,
) -> NlgStatistics:
    """Return what BLEU, ROUGE and CIDEr need of each report.

    Reports are cleaned and counted once; a resample of them then costs a few matrix products.

    Args:
        predictions: Generated reports; a missing one (``None``, NaN, blank) counts as empty.
        references: True reports.
        protocol: Name of a protocol; see :func:`~ct_vlm.metrics.functional.nlg_scores`.
        metrics: Any of ``"bleu"``, ``"rouge"`` and ``"cider"``.

    Raises:
        ShapeError: If there are not as many predictions as references.
        DatasetError: If a text is no text.
        ConfigError: If the protocol or a metric is unknown.

    Example:
        >>> from ct_vlm.metrics.functional import nlg_statistics
        >>> statistics = nlg_statistics(["Heart size is normal."], ["Heart size is increased."])
        >>> round(statistics.scores()["bleu_1"], 3)
        0.75
    """
    unknown = sorted(set(metrics) - set(RESAMPLED))
    if unknown:
        cause = f"Statistics do not hold {', '.join(map(repr, unknown))}."
        raise ConfigError(cause, f"Choose from: {', '.join(RESAMPLED)}.")
    rules = get_protocol(protocol)
    texts, missing = as_predicted_texts(predictions)
    truths = as_reference_texts(references)
    check_pairs(texts, truths)
    found, expected = rules.clean(texts, truths)
    bleu, cider = _count(rules, found, expected, metrics)
    rouge: dict[str, NDArray[np.float64]] = {}
    if "rouge" in metrics:
        rouge = rouge_f1(found, expected) if rules.smoothed else {"rouge_l": coco_rouge_l(found, expected)}
    return NlgStatistics(protocol, len(texts), missing, bleu, rouge, cider)


def _count(
    rules: Protocol, found: Sequence[str], expected: Sequence[str], metrics: Collection[str]
) -> tuple[NDArray[np.int64] | None, CiderTerms | None]:
    """Count the n-grams of BLEU and of CIDEr, once if they split words alike."""
    bleu = cider = None
    counted: dict[Any, Any] = {}
    for name, split in (("bleu", rules.words), ("cider", white_space_words)):
        if name in metrics:
            if split not in counted:
                ours, theirs = list(map(split, found)), list(map(split, expected))
                counted[split] = count_ngrams(ours, theirs), text_lengths(ours), text_lengths(theirs)
            if name == "bleu":
                bleu = bleu_counts(*counted[split])
            else:
                cider = cider_terms(*counted[split])
    return bleu, cider


def corpus_bleu(counts: Sequence[float], protocol: str) -> dict[str, float]:
    """Return BLEU-1 to BLEU-4 and their mean from counts summed over reports.

    Args:
        counts: Ten counts; see :func:`ct_vlm.metrics.functional.bleu.bleu_counts`.
        protocol: Name of a protocol.
    """
    return {name: float(values[0]) for name, values in _bleu(np.array([counts]), protocol).items()}


def _bleu(counts: NDArray[Any], protocol: str) -> dict[str, NDArray[np.float64]]:
    """Score rows of counts and name the columns."""
    rows = bleu_rows(counts, smoothed_bleu if get_protocol(protocol).smoothed else coco_bleu)
    scores = {f"bleu_{order}": column for order, column in enumerate(rows.T, start=1)}
    return {**scores, "bleu_mean": rows.mean(1)}


def _as_weights(weights: Any, num_samples: int) -> NDArray[np.float64]:
    """Return weights as a matrix of floats."""
    matrix = np.asarray(weights, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != num_samples or not (matrix >= 0).all():
        cause = f"Expected non-negative weights as (R, {num_samples}), but got {matrix.shape}."
        raise ShapeError(cause, "Pass one row a resample: how often each report is in it.")
    return matrix
