"""ROUGE of single reports, as the two implementations in use compute it.

References:
    [1] Lin, ROUGE: a package for automatic evaluation of summaries, 2004.
    [2] ``pycocoevalcap`` 1.2, ``rouge/rouge.py``: F with beta 1.2 over words split at single spaces.
    [3] ``rouge_score`` 0.1.2: F1 over lower-case alphanumeric words.
    [4] Hyyrö, Bit-parallel LCS-length computation revisited, 2004.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.metrics.functional.ngrams import count_ngrams, text_lengths
from ct_vlm.metrics.functional.words import alphanumeric_words, porter_stemmer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COCO_BETA = 1.2


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of two lists of words.

    One integer holds a row of the usual table, a bit a word, so a step costs an addition.

    Args:
        first: Words.
        second: Words.

    Example:
        >>> from ct_vlm.metrics.functional.rouge import lcs_length
        >>> lcs_length("no pleural effusion was seen".split(), "effusion was not seen".split())
        3
    """
    places: defaultdict[str, int] = defaultdict(int)
    bit = 1
    for word in first:
        places[word] |= bit
        bit += bit
    row = every = bit - 1
    for same in map(places.get, second):
        if same:
            kept = row & same
            row = ((row + kept) | (row - kept)) & every
    return len(first) - row.bit_count()


def coco_rouge_l(predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Return ROUGE-L of each report as ``pycocoevalcap`` does.

    Words are what stands between single spaces, so two spaces make an empty word and a line end stays
    inside a word, as in the original. There an empty text is one empty word too, which two spaces of
    the reference match; here an empty prediction scores 0 unless the reference is empty as well.

    Args:
        predictions: Cleaned predictions.
        references: Cleaned references.

    Shape:
        - Output: ``(N,)``.
    """
    scores = []
    for prediction, reference in zip(predictions, references, strict=True):
        found, expected = prediction.split(" "), reference.split(" ")
        common = lcs_length(expected, found) if prediction or not reference else 0
        precision, recall = common / len(found), common / len(expected)
        weighted = recall + COCO_BETA**2 * precision
        scores.append((1 + COCO_BETA**2) * precision * recall / weighted if common else 0.0)
    return np.array(scores, dtype=np.float64)


def rouge_f1(
    predictions: Sequence[str], references: Sequence[str], use_stemmer: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L of each report as ``rouge_score`` does: F1.

    Args:
        predictions: Cleaned predictions.
        references: Cleaned references.
        use_stemmer: Whether to compare stems; needs ``nltk``.

    Returns:
        ``rouge_1``, ``rouge_2`` and ``rouge_l``, one value a report.

    Shape:
        - Output: ``(N,)`` each.

    Raises:
        MissingDependencyError: If stemming is asked for without ``nltk``.
    """
    found, expected = ([alphanumeric_words(text) for text in texts] for texts in (predictions, references))
    if use_stemmer:
        stem = porter_stemmer()
        found, expected = ([list(map(stem, words)) for words in texts] for texts in (found, expected))
    sizes = text_lengths(found), text_lengths(expected)
    scores = {}
    for order, counts in enumerate(count_ngrams(found, expected, max_order=2), start=1):
        common = np.bincount(counts.report, counts.matched, minlength=len(found))
        scores[f"rouge_{order}"] = _f1(common, *(np.maximum(0, size - order + 1) for size in sizes))
    common = np.array([lcs_length(r, p) for p, r in zip(found, expected, strict=True)], dtype=np.float64)
    return {**scores, "rouge_l": _f1(common, *sizes)}


def _f1(common: NDArray[Any], found: NDArray[np.int64], expected: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F1 of overlap; 0 where nothing is in common."""
    return 2 * common / np.maximum(1, found + expected)
