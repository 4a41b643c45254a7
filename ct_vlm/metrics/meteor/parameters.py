"""METEOR 1.5's English parameters, and its score from sufficient statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODULES = ("exact", "stem", "synonym", "paraphrase")
# the "rank" task of version 1.5 for English: what the program takes when no task is named
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MODULE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
NUM_STATISTICS = 7 + 4 * len(MODULES)
# statistics: lengths and function words of prediction and reference; for each module the matched
# content words (prediction, reference) and function words (prediction, reference); chunks and the
# matched words of prediction and reference
_LENGTHS, _FUNCTION_WORDS, _MATCHES, _TOTALS = slice(0, 2), slice(2, 4), slice(4, -3), slice(-3, None)


def score_statistics(statistics: NDArray[np.float64]) -> float:
    r"""Return the METEOR 1.5 score of one report's statistics, or of a sum of several.

    With precision P and recall R over words, weighted by module and by :math:`\delta` for content
    and :math:`1 - \delta` for function words, the score is
    :math:`(1 - \gamma (c / m)^\beta) \cdot PR / (\alpha P + (1 - \alpha) R)` for c chunks and m
    matched words (mean of both sides). A report that is matched whole and in order is not
    penalised.

    Args:
        statistics: The 23 numbers that ``SCORE`` prints.

    Shape:
        - statistics: ``(23,)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.meteor.parameters import score_statistics
        >>> score_statistics(np.array([4, 4, 2, 2, 2, 2, 2, 2, *[0] * 12, 1, 4, 4], dtype=float))
        1.0

    References:
        [1] Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any
        Target Language", 2014, https://aclanthology.org/W14-3348.
    """
    lengths, function_words = statistics[_LENGTHS], statistics[_FUNCTION_WORDS]
    by_module = statistics[_MATCHES].reshape(len(MODULES), 2, 2)
    matched = np.asarray(MODULE_WEIGHTS) @ (DELTA * by_module[:, 0] + (1 - DELTA) * by_module[:, 1])
    total = DELTA * (lengths - function_words) + (1 - DELTA) * function_words
    if not matched.all() or not total.all():
        return 0.0
    precision, recall = (matched / total).tolist()
    chunks, *words = statistics[_TOTALS].tolist()
    penalty = 0.0 if _is_whole(statistics) else GAMMA * (2 * chunks / sum(words)) ** BETA
    return (1 - penalty) * precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)


def sum_statistics(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the statistics of reports; one that is matched whole and in order adds no chunk.

    Args:
        statistics: Statistics of each report.

    Shape:
        - statistics: ``(B, 23)``.
        - Output: ``(23,)``.
    """
    total = statistics.sum(axis=0)
    total[-3] -= sum(_is_whole(row) for row in statistics)
    return total


def _is_whole(statistics: NDArray[np.float64]) -> bool:
    """Tell whether every word is matched in one chunk."""
    chunks, *words = statistics[_TOTALS].tolist()
    return bool(chunks == 1 and words == statistics[_LENGTHS].tolist())
