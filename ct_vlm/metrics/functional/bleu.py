"""Corpus BLEU from counts that add over reports.

References:
    [1] Papineni et al., BLEU: a method for automatic evaluation of machine translation, 2002.
    [2] ``pycocoevalcap`` 1.2, ``bleu/bleu_scorer.py``.
    [3] Lin and Och, ORANGE, 2004, and Hugging Face ``evaluate``'s ``bleu`` (``nmt_bleu.py``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.functional.ngrams import NgramCounts

MAX_ORDER = 4
NUM_COUNTS = 2 * MAX_ORDER + 2
_TINY, _SMALL = 1e-15, 1e-9  # the reference implementation's guards against 0 / 0


def bleu_counts(
    ngrams: Sequence[NgramCounts], predicted_words: NDArray[np.int64], reference_words: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return what BLEU needs of each report; rows of any set of reports may be added.

    Args:
        ngrams: Counts of the orders 1 to 4.
        predicted_words: Length of each prediction.
        reference_words: Length of each reference.

    Returns:
        Matched n-grams (orders 1 to 4), predicted n-grams (1 to 4), predicted and reference words.

    Shape:
        - predicted_words, reference_words: ``(N,)``.
        - Output: ``(N, 10)``.
    """
    num_reports = len(predicted_words)
    counts = np.zeros((num_reports, NUM_COUNTS), dtype=np.int64)
    for index, order in enumerate(ngrams):
        counts[:, index] = np.bincount(order.report, order.matched, minlength=num_reports)
        counts[:, MAX_ORDER + index] = np.maximum(0, predicted_words - index)
    counts[:, -2], counts[:, -1] = predicted_words, reference_words
    return counts


def coco_bleu(counts: Sequence[float]) -> list[float]:
    """Return BLEU-1 to BLEU-4 with the arithmetic of ``pycocoevalcap``, guards included.

    Args:
        counts: Ten counts of :func:`bleu_counts`, of one report or summed over reports.
    """
    matched, total, predicted_words, reference_words = _split(counts)
    ratio = (predicted_words + _TINY) / (reference_words + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(MAX_ORDER):
        product *= (matched[order] + _TINY) / (total[order] + _SMALL)
        scores.append(product ** (1 / (order + 1)) * brevity)
    return scores


def smoothed_bleu(counts: Sequence[float], smooth: bool = True) -> list[float]:
    """Return BLEU-1 to BLEU-4 as Hugging Face ``evaluate`` does with ``max_order`` 1 to 4.

    Smoothing adds one to matches and to n-grams of every order, the first included. No words in the
    prediction give 0; the original divides by zero there.

    Args:
        counts: Ten counts of :func:`bleu_counts`, of one report or summed over reports.
        smooth: Whether to smooth.
    """
    matched, total, predicted_words, reference_words = _split(counts)
    if not predicted_words or not reference_words:
        return [0.0] * MAX_ORDER
    ratio = predicted_words / reference_words
    brevity = 1.0 if ratio > 1 else math.exp(1 - 1 / ratio)
    extra = int(smooth)
    precisions = [(m + extra) / (t + extra) if t + extra else 0.0 for m, t in zip(matched, total, strict=True)]
    scores = []
    for order in range(1, MAX_ORDER + 1):
        used = precisions[:order]
        scores.append(math.exp(sum(map(math.log, used)) / order) * brevity if min(used) > 0 else 0.0)
    return scores


def bleu_rows(counts: NDArray[np.int64], formula: Callable[[Sequence[float]], list[float]]) -> NDArray[np.float64]:
    """Apply a formula to every row of counts.

    Args:
        counts: Rows of ten counts.
        formula: :func:`coco_bleu` or :func:`smoothed_bleu`.

    Shape:
        - counts: ``(R, 10)``.
        - Output: ``(R, 4)``.
    """
    return np.array([formula(row) for row in counts.tolist()], dtype=np.float64).reshape(-1, MAX_ORDER)


def _split(counts: Sequence[float]) -> tuple[Sequence[float], Sequence[float], float, float]:
    """Name the ten counts."""
    return counts[:MAX_ORDER], counts[MAX_ORDER:-2], counts[-2], counts[-1]
