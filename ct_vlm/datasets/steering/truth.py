"""What is true of a patient, so that nothing true is told as a mistake."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.steering.sizes import sizes_mm
from ct_vlm.metrics.labeler.engine import Sentence
from ct_vlm.metrics.labeler.negation import find_negation
from ct_vlm.text.places import Places, find_places
from ct_vlm.text.region_lexicon import find_region
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ct_vlm.text.abnormality_lists import Abnormality
    from ct_vlm.text.finding_phrases import FindingPhrases

_EVERYWHERE = re.compile(
    r"\b(?:all (?:the )?(?:lung )?(?:lobes|segments|zones)|every (?:lobe|segment)|diffuse\w*|widespread|throughout)\b",
    re.IGNORECASE,
)


class Truth:
    """What a list, a report and labels say of one patient.

    Args:
        entries: The true list.
        report: The report.
        labels: Names of labels that are positive.
        labeler: Sentences to rows of 0 and 1, with ``label_names``, such as the rule labeler.

    Example:
        >>> from ct_vlm.datasets.steering.truth import Truth
        >>> from ct_vlm.metrics import RuleLabeler
        >>> truth = Truth([("lung", "A nodule.")], "No effusion. Heart size is increased.", (), RuleLabeler())
        >>> sorted(truth.labels)
        ['Cardiomegaly', 'Lung nodule']
    """

    def __init__(
        self,
        entries: Iterable[Abnormality | tuple[str, str]],
        report: str,
        labels: Collection[str],
        labeler: Callable[[Sequence[str]], Any],
    ) -> None:
        self._labeler = labeler
        self._names: Sequence[str] = labeler.label_names  # type: ignore[attr-defined]
        self._entries = [text for _, text in entries]
        self._sentences = [*self._entries, *split_sentences(report)]
        self._prepared = [Sentence(sentence) for sentence in self._sentences]
        self._labels_of = self.labels_of_each(self._sentences)
        whole = self.labels_of(report) if report.strip() else frozenset()
        self.labels: frozenset[str] = frozenset(labels).union(whole, *self._labels_of)

    def labels_of(self, text: str) -> frozenset[str]:
        """Return the labels that a text states.

        Args:
            text: A sentence, or a whole report.
        """
        return self.labels_of_each([text])[0]

    def labels_of_each(self, texts: Sequence[str]) -> list[frozenset[str]]:
        """Return the labels that each text states.

        Args:
            texts: Sentences.
        """
        rows = self._labeler(texts) if texts else []
        return [frozenset(name for name, value in zip(self._names, row, strict=True) if value == 1) for row in rows]

    def names(self, finding: FindingPhrases) -> bool:
        """Tell whether anything may say that the patient has a finding.

        Args:
            finding: The finding; whatever may mean it counts, unless it is denied.
        """
        return finding.label in self.labels or any(_may_state(sentence, finding) for sentence in self._prepared)

    def is_said_at(self, entry: Abnormality, places_of: str) -> bool:
        """Tell whether anything else puts what an entry states at one of the places of another text.

        Args:
            entry: What is stated: its labels, or without any whatever is said of its region.
            places_of: Says which places.
        """
        labels, places = self.labels_of(entry.text), find_places(places_of)
        return any(
            _EVERYWHERE.search(sentence) is not None or _overlap(places, find_places(sentence))
            for sentence, found in zip(self._sentences, self._labels_of, strict=True)
            if sentence != entry.text and (labels & found or (not labels and find_region(sentence) == entry.region))
        )

    def has_size(self, size: tuple[float, ...]) -> bool:
        """Tell whether list or report hold a size.

        Args:
            size: Its numbers in mm.
        """
        return size in self._sizes

    @functools.cached_property
    def _sizes(self) -> frozenset[tuple[float, ...]]:
        """All sizes of list and report."""
        return frozenset(size for sentence in self._sentences for size in sizes_mm(sentence))

    def labels_besides(self, entry: Abnormality) -> frozenset[str]:
        """Return the labels that the list states without one of its entries.

        Args:
            entry: The entry that is left out, once.
        """
        index = self._entries.index(entry.text)
        return frozenset().union(*self._labels_of[:index], *self._labels_of[index + 1 : len(self._entries)])


def is_stated(text: str, finding: FindingPhrases) -> bool:
    """Tell whether a text names a finding and nowhere denies it.

    Args:
        text: A sentence.
        finding: The finding, by the phrases that can be replaced.

    Example:
        >>> from ct_vlm.datasets.steering.truth import is_stated
        >>> from ct_vlm.text.finding_phrases import FINDINGS
        >>> text = "Left pleural effusion, no pneumothorax."
        >>> is_stated(text, FINDINGS["pleural effusion"]), is_stated(text, FINDINGS["pneumothorax"])
        (True, False)
    """
    denials = _denials(Sentence(text), (finding.pattern,))
    return bool(denials) and not any(denials)


def is_mentioned(text: str, finding: FindingPhrases) -> bool:
    """Tell whether a text holds anything that may mean a finding, denied or not.

    Args:
        text: A sentence.
        finding: The finding.

    Example:
        >>> from ct_vlm.datasets.steering.truth import is_mentioned
        >>> from ct_vlm.text.finding_phrases import FINDINGS
        >>> is_mentioned("The pleura is not thickened.", FINDINGS["pleural thickening"])
        True
    """
    return _is_mentioned(Sentence(text), finding)


def _is_mentioned(sentence: Sentence, finding: FindingPhrases) -> bool:
    """Tell whether a prepared sentence holds anything that may mean a finding."""
    return finding.pattern.search(sentence.written) is not None or finding.signs.search(sentence.text) is not None


def _may_state(sentence: Sentence, finding: FindingPhrases) -> bool:
    """Tell whether a sentence holds anything that may mean a finding and is not denied."""
    if not _is_mentioned(sentence, finding):
        return False
    # what reaches over two clauses, or is not found in normalised ones, counts as stated
    denials = _denials(sentence, (finding.pattern, finding.signs))
    return not denials or not all(denials)


def _denials(sentence: Sentence, patterns: Iterable[re.Pattern[str]]) -> list[bool]:
    """Return for each match in the clauses of a sentence whether it is denied."""
    return [
        bool(find_negation(clause, match.start(), match.end()))
        for clause in sentence.clauses
        for pattern in patterns
        for match in pattern.finditer(clause)
    ]


def _overlap(places: Places, others: Places) -> bool:
    """Tell whether two texts may speak of one place: of one lobe, or of a side that one does not go beyond."""
    if places.lobes and others.lobes:
        return bool(places.lobes & others.lobes)
    return bool(places.sides & others.sides)
