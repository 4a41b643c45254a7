"""Corpus BLEU as COCO caption evaluation computes it, several times faster."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

MAX_ORDER = 4
_TINY, _SMALL = 1e-15, 1e-9  # the reference implementation's guards against 0 / 0


def count_bleu(pairs: Iterable[tuple[str, str]]) -> Tensor:
    """Count what :func:`compute_bleu` needs.

    Args:
        pairs: Cleaned prediction and reference of each report; words are split at white space.

    Returns:
        Matched n-grams (orders 1 to 4), predicted n-grams (1 to 4), predicted words, reference
        words; the counts of two sets of reports add.

    Shape:
        - Output: ``(10,)``.
    """
    matched, total = [0] * MAX_ORDER, [0] * MAX_ORDER
    predicted_words = reference_words = 0
    for prediction, reference in pairs:
        found, expected = prediction.split(), reference.split()
        predicted_words += len(found)
        reference_words += len(expected)
        for order in range(1, MAX_ORDER + 1):
            total[order - 1] += max(0, len(found) - order + 1)
            matched[order - 1] += _matches(found, expected, order)
    return torch.tensor([*matched, *total, predicted_words, reference_words])


def compute_bleu(counts: Tensor) -> list[float]:
    """Turn counts into BLEU-1 to BLEU-4.

    Args:
        counts: Output of :func:`count_bleu`, summed over reports.

    Shape:
        - counts: ``(10,)``.
    """
    values = counts.tolist()
    matched, total, (predicted_words, reference_words) = values[:MAX_ORDER], values[MAX_ORDER:-2], values[-2:]
    ratio = (predicted_words + _TINY) / (reference_words + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(MAX_ORDER):
        product *= (matched[order] + _TINY) / (total[order] + _SMALL)
        scores.append(product ** (1 / (order + 1)) * brevity)
    return scores


def _matches(found: Sequence[str], expected: Sequence[str], order: int) -> int:
    """Count the n-grams of one order that occur in both, each as often as in the rarer one."""
    ours = Counter(zip(*(found[start:] for start in range(order)), strict=False))
    theirs = Counter(zip(*(expected[start:] for start in range(order)), strict=False))
    return sum(min(ours[ngram], theirs[ngram]) for ngram in ours.keys() & theirs.keys())
