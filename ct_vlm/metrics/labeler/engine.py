"""Apply label rules to sentences."""

from __future__ import annotations

import functools
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
        before: The sentence before, as written ("" for the first).
    """

    def __init__(self, written: str, before: str = "") -> None:
        self.written = written
        text = normalise(written)
        self.words = frozenset(text.split())
        self.text = drop_pseudo_negations(text, self.words)
        self.has_looked_back = False
        self._before = before

    @functools.cached_property
    def clauses(self) -> list[str]:
        """Clauses of the sentence."""
        return split_clauses(self.text)

    @property
    def previous_text(self) -> str:
        """The sentence before, normalised; whoever reads it makes the result depend on it."""
        self.has_looked_back = True
        return normalise(self._before)


class WordIndex(dict[str, frozenset[int]]):
    """Which rules have a stem in a word; each word is looked at once.

    A word leads to the index of a rule (one of its ``stems``) and to the index's complement (one of
    its ``also``).

    Args:
        rules: The rules, known by their index.
    """

    _MAX_WORDS = 2**17

    def __init__(self, rules: Sequence[LabelRule]) -> None:
        super().__init__()
        self._stems = {index: rule.stems for index, rule in enumerate(rules)}
        self._stems |= {~index: rule.also for index, rule in enumerate(rules) if rule.also}

    def __missing__(self, word: str) -> frozenset[int]:
        """Look a new word up in the stems of every rule."""
        if len(self) >= self._MAX_WORDS:
            self.clear()
        found = frozenset(key for key, stems in self._stems.items() if any(stem in word for stem in stems))
        self[word] = found
        return found

    def rules_of(self, sentence: Sentence) -> list[int]:
        """Return the indices of the rules that need to read a sentence."""
        found = set().union(*map(self.__getitem__, sentence.words))
        return [key for key in found if key >= 0 and (~key in found or ~key not in self._stems)]


def find_mentions(rule: LabelRule, sentence: Sentence) -> Iterator[Mention]:
    """Yield every mention of a label in a sentence.

    Args:
        rule: The label's rule.
        sentence: The sentence.

    Yields:
        Mentions, finding by finding.
    """
    for finding, match, clause in _matches(rule, sentence):
        cue = find_negation(match.string, match.start(), match.end())
        yield Mention(rule.label, finding.name, match.group(), bool(cue), cue, clause, sentence.written)


def states(rule: LabelRule, sentence: Sentence) -> bool:
    """Tell whether a sentence states a label.

    Args:
        rule: The label's rule.
        sentence: The sentence.
    """
    return any(not find_negation(match.string, match.start(), match.end()) for _, match, _ in _matches(rule, sentence))


def _matches(rule: LabelRule, sentence: Sentence) -> Iterator[tuple[Finding, re.Match[str], str]]:
    """Yield what matches in a sentence: the finding, where it is in the rewritten clause, and the clause."""
    for clause in sentence.clauses:
        # most clauses hold none of the words: look before the rewrites, which cost more
        findings = [finding for finding in rule.findings if finding.words.search(clause)]
        rewritten = _rewritten(rule, clause) if findings else clause
        for finding in findings:
            match = finding.words.search(rewritten)
            if match is None or not _applies(rule, finding, rewritten, sentence):
                continue
            while match is not None:
                yield finding, match, clause
                match = finding.words.search(rewritten, match.end())


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
    for text in (clause, _rewritten(rule, sentence.text)):
        if place.own.search(text):
            return True
        if place.foreign.search(text):
            return False
    if _REFERS_BACK.match(sentence.text):
        before = _rewritten(rule, sentence.previous_text)
        if place.own.search(before) or place.foreign.search(before):
            return place.own.search(before) is not None
    if place.lasting is not None and place.lasting.search(sentence.previous_text):
        return False
    return place.default
