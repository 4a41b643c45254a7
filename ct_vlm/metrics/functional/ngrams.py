"""Count the n-grams of many reports at once, as integers."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class NgramCounts:
    """How often each n-gram of one order occurs in each pair of reports; one entry a pair and n-gram.

    Attributes:
        report: Index of the pair of reports, ascending.
        gram: Number of the n-gram, from 0.
        predicted: How often the prediction has it.
        expected: How often the reference has it.
        num_grams: How many different n-grams there are.

    Shape:
        - report, gram, predicted, expected: ``(E,)`` with E entries.
    """

    report: NDArray[np.int64]
    gram: NDArray[np.int64]
    predicted: NDArray[np.int64]
    expected: NDArray[np.int64]
    num_grams: int

    @property
    def matched(self) -> NDArray[np.int64]:
        """How often both have the n-gram: the smaller of the two counts."""
        return np.minimum(self.predicted, self.expected)


def text_lengths(texts: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return the number of words of each text.

    Args:
        texts: Words of each text.
    """
    return np.fromiter(map(len, texts), np.int64, len(texts))


def count_ngrams(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]], max_order: int = 4
) -> list[NgramCounts]:
    """Count n-grams of the orders 1 to ``max_order``.

    Args:
        predictions: Words of each prediction.
        references: Words of each reference.
        max_order: Longest n-grams.

    Returns:
        One item an order.

    Example:
        >>> from ct_vlm.metrics.functional.ngrams import count_ngrams
        >>> counts = count_ngrams([["no", "no", "nodule"]], [["no", "nodule"]], max_order=2)
        >>> [int(order.matched.sum()) for order in counts]
        [2, 1]
    """
    texts = [*predictions, *references]
    lengths = text_lengths(texts)
    numbers: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    words = np.fromiter(
        map(numbers.__getitem__, itertools.chain.from_iterable(texts)), np.int64, count=int(lengths.sum())
    )
    report = np.repeat(np.arange(len(texts)) % max(1, len(predictions)), lengths)
    is_reference = np.repeat(np.arange(len(texts)) >= len(predictions), lengths)
    words_left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
    starts, grams, num_grams, counts = np.arange(len(words)), words, len(numbers), []
    for order in range(1, max_order + 1):
        if order > 1:
            keep = words_left[starts] >= order
            starts = starts[keep]
            # numbers are dense again after each order, so that the product cannot overflow
            grams, num_grams = number_values(grams[keep] * len(numbers) + words[starts + order - 1])
        counts.append(_count(report[starts], is_reference[starts], grams, num_grams))
    return counts


def number_values(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Number equal values alike, from 0 in ascending order.

    The positions are sorted along in the low bits of the values, several times faster than by
    :func:`numpy.argsort`, which is used where the bits do not suffice.

    Args:
        values: Non-negative integers.

    Returns:
        The number of each value, and how many different values there are.

    Shape:
        - values: ``(V,)``.
        - Output: ``(V,)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.functional.ngrams import number_values
        >>> number_values(np.array([70, 5, 70, 6]))
        (array([2, 0, 2, 1]), 3)
    """
    bits = len(values).bit_length()
    if int(values.max(initial=0)).bit_length() + bits >= 63:
        unique, numbers = np.unique(values, return_inverse=True)
        return numbers, len(unique)
    ordered = np.sort((values << bits) | np.arange(len(values)))
    is_new = np.diff(ordered >> bits, prepend=-1) != 0
    numbers = np.empty_like(values)
    numbers[ordered & ((1 << bits) - 1)] = np.cumsum(is_new) - 1
    return numbers, int(is_new.sum())


def _count(
    report: NDArray[np.int64], is_reference: NDArray[np.bool_], grams: NDArray[np.int64], num_grams: int
) -> NgramCounts:
    """Count equal n-grams of a report, the prediction's apart from the reference's."""
    keys, times = np.unique((report * num_grams + grams) * 2 + is_reference, return_counts=True)
    cells, is_reference = keys >> 1, (keys & 1).astype(bool)
    is_new = np.diff(cells, prepend=-1) != 0
    entry, cells = np.cumsum(is_new) - 1, cells[is_new]
    predicted, expected = np.zeros_like(cells), np.zeros_like(cells)
    predicted[entry[~is_reference]] = times[~is_reference]
    expected[entry[is_reference]] = times[is_reference]
    report = cells // max(1, num_grams)
    return NgramCounts(report, cells - report * num_grams, predicted, expected, num_grams)
