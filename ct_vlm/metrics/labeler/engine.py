"""Apply label rules to sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct_vlm.metrics.labeler.negation import drop_pseudo_negations, find_negation
from ct_vlm.metrics.labeler.normalise import normalise, split_clauses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct_vlm.metrics.labeler.rules import Finding, LabelRule, Place

_REFERS_BACK = re.compile(
    r"(?:the |some |one |most )?(?:largest|biggest|some of|one of|most of|others?|it|they|these|this|those)\b"
)


@dataclass(frozen=True)
class Mention:
    """One place in a report that states or denies a label.

    Args:
        label: The label.
        rule: Name of the finding that matched.
        words: The words that matched, as normalised.
        negated: Whether they are denied.
        cue: The words that deny them ("" if none).
        clause: The normalised clause in which a negation reaches.
        sentence: The sentence as written.
    """

    label: str
    rule: str
    words: str
    negated: bool
    cue: str
    clause: str
    sentence: str


class Sentence:
    """One sentence prepared for rules; clauses are cut when a rule first needs them.

    Args:
        written: The sentence as written.
        previous: The sentence before.
    """

    def __init__(self, written: str, previous: Sentence | None = None) -> None:
        self.written = written
        text = normalise(written)
        self.words = frozenset(text.split())
        self.text = drop_pseudo_negations(text, self.words)
        self.previous = previous
        self._clauses: list[str] | None = None

    @property
    def clauses(self) -> list[str]:
        """Clauses of the sentence."""
        if self._clauses is None:
            self._clauses = split_clauses(self.text)
        return self._clauses


class WordIndex(dict[str, frozenset[int]]):
    """Which rules have a stem in a word; each word is looked at once.

    Args:
        rules: The rules, known by their index.
    """

    _MAX_WORDS = 2**17

    def __init__(self, rules: Sequence[LabelRule]) -> None:
        super().__init__()
        self._stems = [rule.stems for rule in rules]

    def __missing__(self, word: str) -> frozenset[int]:
        """Look a new word up in the stems of every rule."""
        if len(self) >= self._MAX_WORDS:
            self.clear()
        found = frozenset(index for index, stems in enumerate(self._stems) if any(stem in word for stem in stems))
        self[word] = found
        return found

    def rules_of(self, sentence: Sentence) -> set[int]:
        """Return the indices of the rules that need to read a sentence."""
        return set().union(*map(self.__getitem__, sentence.words))


def find_mentions(rule: LabelRule, sentence: Sentence) -> Iterator[Mention]:
    """Yield every mention of a label in a sentence.

    Args:
        rule: The label's rule.
        sentence: The sentence.
    """
    for raw in sentence.clauses:
        clause = _rewritten(rule, raw)
        for finding in rule.findings:
            for match in finding.words.finditer(clause):
                if not _applies(rule, finding, clause, sentence):
                    break
                cue = find_negation(clause, match.start(), match.end())
                yield Mention(rule.label, finding.name, match.group(), bool(cue), cue, raw, sentence.written)


def states(rule: LabelRule, sentence: Sentence) -> bool:
    """Tell whether a sentence states a label.

    Args:
        rule: The label's rule.
        sentence: The sentence.
    """
    return any(not mention.negated for mention in find_mentions(rule, sentence))


def _rewritten(rule: LabelRule, text: str) -> str:
    """Replace phrases that mean something else."""
    for pattern, replacement in rule.rewrites:
        text = pattern.sub(replacement, text)
    return text


def _applies(rule: LabelRule, finding: Finding, clause: str, sentence: Sentence) -> bool:
    """Check what else a finding asks of its clause and place."""
    if finding.near is not None and finding.near.search(clause) is None:
        return False
    if finding.unless is not None and finding.unless.search(clause) is not None:
        return False
    return finding.place is None or _is_own_place(rule, finding.place, clause, sentence)


def _is_own_place(rule: LabelRule, place: Place, clause: str, sentence: Sentence) -> bool:
    """Decide where a finding is, from its clause outwards."""
    texts = [clause, _rewritten(rule, sentence.text)]
    if sentence.previous is not None and _REFERS_BACK.match(sentence.text):
        texts.append(_rewritten(rule, sentence.previous.text))
    for text in texts:
        if place.own.search(text):
            return True
        if place.foreign.search(text):
            return False
    return place.default
