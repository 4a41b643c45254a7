"""CIDEr as ``pycocoevalcap`` computes it, exactly also for resampled sets of reports.

References:
    [1] Vedantam et al., CIDEr: consensus-based image description evaluation, 2015.
    [2] ``pycocoevalcap`` 1.2, ``cider/cider_scorer.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from ct_vlm.metrics.functional.bleu import MAX_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.functional.ngrams import NgramCounts

SIGMA = 6.0
_MAX_CELLS = 2**22


@dataclass(frozen=True)
class CiderTerms:
    """What CIDEr needs of each report, before the rarity of n-grams is known.

    A report's score is ten times the mean over the orders 1 to 4 of the cosine between the tf-idf
    vectors of prediction and reference, with the prediction's counts clipped at the reference's and
    a Gaussian penalty (sigma 6 bigrams) on the difference in length: what the package calls CIDEr
    is the CIDEr-D of the paper without its stemming. Two consequences for long reports: 20 words too
    many or too few cost a factor 250, and identical reports score 10 only if every order has an
    n-gram that some other report lacks.

    Rarity is counted over the references of the evaluated set, so **the score of a report depends on
    the other reports**: it is not comparable between sets, and a resampled set has rarities of its
    own. They are recomputed for every resample: all n-grams that occur in the same references share
    a rarity, which makes few columns of the many n-grams, and a resample a few sparse products.

    Attributes:
        documents: Which references hold the n-grams of a group.
        overlap: Sum of clipped times expected counts, a row a report and order, a column a group.
        predicted: Sum of squared predicted counts.
        expected: Sum of squared expected counts.
        penalty: The Gaussian penalty of each report.

    Shape:
        - documents: ``(G, N)`` with G groups.
        - overlap, predicted, expected: ``(4 N, G)``.
        - penalty: ``(N,)``.
    """

    documents: csr_array
    overlap: csr_array
    predicted: csr_array
    expected: csr_array
    penalty: NDArray[np.float64]

    def per_report(self) -> NDArray[np.float64]:
        """Return the score of each report, with rarities of the whole set.

        Shape:
            - Output: ``(N,)``.
        """
        return self._scores(np.ones((1, len(self.penalty))))[0]

    def resample(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return CIDEr of resampled sets, rarities counted in each of them.

        Args:
            weights: How often each report is in each set.

        Shape:
            - weights: ``(R, N)``.
            - Output: ``(R,)``.
        """
        parts = [(self._scores(part) * part).sum(1) / np.maximum(1, part.sum(1)) for part in self._parts(weights)]
        return np.concatenate([np.zeros(0), *parts])

    def _parts(self, weights: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Cut the sets so that the arrays of a part stay small."""
        step = max(1, _MAX_CELLS // max(1, self.documents.shape[0], self.overlap.shape[0]))
        for start in range(0, len(weights), step):
            yield weights[start : start + step].astype(np.float64)

    def _scores(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores of all reports for each set."""
        frequency = np.maximum(1.0, self.documents @ weights.T)
        rarity = np.log(np.maximum(1.0, weights.sum(1)) / frequency) ** 2
        norms = np.sqrt(self.predicted @ rarity) * np.sqrt(self.expected @ rarity)
        cosines = np.divide(self.overlap @ rarity, norms, out=np.zeros_like(norms), where=norms > 0)
        orders = cosines.reshape(len(self.penalty), MAX_ORDER, len(weights))
        return 10 / MAX_ORDER * (orders.sum(1) * self.penalty[:, None]).T


def cider_terms(
    ngrams: Sequence[NgramCounts], predicted_words: NDArray[np.int64], reference_words: NDArray[np.int64]
) -> CiderTerms:
    """Return what CIDEr needs of each report.

    Args:
        ngrams: Counts of the orders 1 to 4.
        predicted_words: Length of each prediction.
        reference_words: Length of each reference.

    Shape:
        - predicted_words, reference_words: ``(N,)``.

    Example:
        >>> from ct_vlm.metrics.functional.cider import cider_terms
        >>> from ct_vlm.metrics.functional.ngrams import count_ngrams, text_lengths
        >>> found = [text.split() for text in ("no nodule is seen", "the heart is large")]
        >>> terms = cider_terms(count_ngrams(found, found), text_lengths(found), text_lengths(found))
        >>> terms.per_report().tolist()
        [10.0, 10.0]
    """
    num_reports = len(predicted_words)
    offsets = np.cumsum([0, *(counts.num_grams for counts in ngrams)])
    report = np.concatenate([counts.report for counts in ngrams])
    gram = np.concatenate([counts.gram + offset for counts, offset in zip(ngrams, offsets, strict=False)])
    predicted, expected, matched = (
        np.concatenate([getattr(counts, name) for counts in ngrams]) for name in ("predicted", "expected", "matched")
    )
    order = np.repeat(np.arange(MAX_ORDER), [len(counts.report) for counts in ngrams])
    group, documents = _group(report, gram, expected > 0, int(offsets[-1]), num_reports)
    rows, columns = report * MAX_ORDER + order, group[gram]

    def matrix(values: NDArray[np.int64]) -> csr_array:
        shape = (num_reports * MAX_ORDER, documents.shape[0])
        some = values > 0
        return csr_array((values[some].astype(np.float64), (rows[some], columns[some])), shape=shape)

    # the original compares lengths in bigrams
    difference = np.maximum(0, predicted_words - 1) - np.maximum(0, reference_words - 1)
    penalty = np.exp(-(difference.astype(np.float64) ** 2) / (2 * SIGMA**2))
    return CiderTerms(documents, matrix(matched * expected), matrix(predicted**2), matrix(expected**2), penalty)


def _group(
    report: NDArray[np.int64],
    gram: NDArray[np.int64],
    in_reference: NDArray[np.bool_],
    num_grams: int,
    num_reports: int,
) -> tuple[NDArray[np.int64], csr_array]:
    """Put n-grams of the same set of references into one group.

    Sets are told apart by the sum of a random 64-bit number a report; two of a million sets are
    mixed up with a probability of 3e-8.

    Returns:
        The group of each n-gram, and which references hold a group.
    """
    report, gram = report[in_reference], gram[in_reference]
    marks = np.random.default_rng(0).integers(0, 2**64, size=num_reports, dtype=np.uint64)
    signature = np.zeros(num_grams, dtype=np.uint64)
    np.add.at(signature, gram, marks[report])
    _, first, group = np.unique(signature, return_index=True, return_inverse=True)
    chosen = first[group[gram]] == gram
    entries = (np.ones(int(chosen.sum())), (group[gram[chosen]], report[chosen]))
    return group, csr_array(entries, shape=(len(first), num_reports))
