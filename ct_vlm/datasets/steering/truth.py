"""What is true of a patient, so that nothing true is told as a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.metrics.labeler.engine import Sentence
from ct_vlm.metrics.labeler.negation import find_negation
from ct_vlm.text.places import find_places
from ct_vlm.text.region_lexicon import find_region
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ct_vlm.text.abnormality_lists import Abnormality
    from ct_vlm.text.finding_phrases import FindingPhrases


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
        """Tell whether anything says that the patient has a finding.

        Args:
            finding: The finding.
        """
        return finding.label in self.labels or any(_states(sentence, finding) for sentence in self._sentences)

    def is_said_at(self, entry: Abnormality, places_of: str) -> bool:
        """Tell whether anything else puts what an entry states at one of the places of another text.

        Args:
            entry: What is stated: its labels, or without any whatever is said of its region.
            places_of: Says which places.
        """
        labels, places = self.labels_of(entry.text), find_places(places_of).finest
        return any(
            places & find_places(sentence).finest
            for sentence, found in zip(self._sentences, self._labels_of, strict=True)
            if sentence != entry.text and (labels & found or (not labels and find_region(sentence) == entry.region))
        )

    def has_words(self, words: str) -> bool:
        """Tell whether list or report hold some words.

        Args:
            words: The words, as written.
        """
        return any(words.lower() in sentence.lower() for sentence in self._sentences)

    def labels_besides(self, entry: Abnormality) -> frozenset[str]:
        """Return the labels that the list states without one of its entries.

        Args:
            entry: The entry that is left out, once.
        """
        index = self._entries.index(entry.text)
        return frozenset().union(*self._labels_of[:index], *self._labels_of[index + 1 : len(self._entries)])


def _states(sentence: str, finding: FindingPhrases) -> bool:
    """Tell whether a sentence names a finding without denying it."""
    if finding.pattern.search(sentence) is None:
        return False
    prepared = Sentence(sentence)
    # phrases with hyphens are not found in normalised clauses: then they count as stated
    matches = [(clause, match) for clause in prepared.clauses for match in finding.pattern.finditer(clause)]
    return not matches or any(not find_negation(clause, match.start(), match.end()) for clause, match in matches)
