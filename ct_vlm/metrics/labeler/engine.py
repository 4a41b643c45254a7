"""Apply label rules to sentences."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from ct_vlm.metrics.labeler.doubt import find_doubt
from ct_vlm.metrics.labeler.explanation import Mention
from ct_vlm.metrics.labeler.negation import drop_pseudo_negations, find_negation
from ct_vlm.metrics.labeler.normalise import list_item, normalise, split_clauses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct_vlm.metrics.labeler.rules import Finding, LabelRule, Place

_REFERS_BACK = re.compile(
    r"(?:the |some |one |most )?(?:largest|biggest|some of|one of|most of|others?|it|they|these|this|those)\b"
)


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
        self._rewritten: dict[tuple[int, str], str] = {}
        self._places: dict[tuple[int, int, str], bool] = {}
        self._before = before

    @functools.cached_property
    def clauses(self) -> list[str]:
        """Clauses of the sentence."""
        return split_clauses(self.text)

    def rewritten(self, rule: LabelRule, text: str) -> str:
        """Replace phrases that mean something else in a part of the sentence."""
        if not rule.rewrites:
            return text
        key = (id(rule.rewrites), text)  # labels may share their rewrites
        known = self._rewritten.get(key)
        if known is None:
            known = text
            for pattern, replacement in rule.rewrites:
                known = pattern.sub(replacement, known)
            self._rewritten[key] = known
        return known

    def decide_place(self, rule: LabelRule, place: Place, clause: str) -> bool:
        """Tell whether what a clause says is about a place of the label, from the clause outwards.

        Args:
            rule: The label's rule.
            place: The place that a finding asks for.
            clause: The clause, rewritten for the rule.
        """
        key = (id(rule), id(place), clause)
        if key not in self._places:
            self._places[key] = self._decide_place(rule, place, clause)
        return self._places[key]

    def _decide_place(self, rule: LabelRule, place: Place, clause: str) -> bool:
        """Decide a place that is not known yet."""
        for text in (clause, self.rewritten(rule, self.text)):
            if place.own.search(text):
                return True
            if place.foreign.search(text):
                return False
        if _REFERS_BACK.match(self.text):
            before = self.rewritten(rule, self.previous_text)
            if place.own.search(before) or place.foreign.search(before):
                return place.own.search(before) is not None
        if place.lasting is not None and place.lasting.search(self.previous_text):
            return False
        return place.default

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
        self._stems |= {~index: rule.also for index, rule in enumerate(rules) if rule.also is not None}

    def __missing__(self, word: str) -> frozenset[int]:
        """Look a new word up in the stems of every rule."""
        if len(self) >= self._MAX_WORDS:
            self.clear()
        found = frozenset(key for key, stems in self._stems.items() if stems.search(word))
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
        doubt = "" if cue else find_doubt(match.string, match.start(), match.end())
        yield Mention(rule.label, finding.name, match.group(), bool(cue), cue, doubt, clause, sentence.written)


def states(rule: LabelRule, sentence: Sentence, *, weigh_doubt: bool) -> bool | None:
    """Tell whether a sentence states a label.

    Args:
        rule: The label's rule.
        sentence: The sentence.
        weigh_doubt: Whether to look for cues of doubt; without, what is left open is stated.

    Returns:
        None if the sentence only leaves the label open.
    """
    is_open = False
    for _, match, _ in _matches(rule, sentence):
        if find_negation(match.string, match.start(), match.end()):
            continue
        if not (weigh_doubt and find_doubt(match.string, match.start(), match.end())):
            return True
        is_open = True
    return None if is_open else False


def _matches(rule: LabelRule, sentence: Sentence) -> Iterator[tuple[Finding, re.Match[str], str]]:
    """Yield what matches in a sentence: the finding, where it is in the rewritten clause, and the clause."""
    for clause in sentence.clauses:
        # most clauses hold none of the words: look before the rewrites, which cost more
        findings = [finding for finding in rule.findings if finding.words.search(clause)]
        rewritten = sentence.rewritten(rule, clause) if findings else clause
        for finding in findings:
            for match in finding.words.finditer(rewritten):
                if _applies(rule, finding, match, sentence):
                    yield finding, match, clause


def _applies(rule: LabelRule, finding: Finding, match: re.Match[str], sentence: Sentence) -> bool:
    """Check what else a finding asks of its clause and place."""
    if finding.unless is not None and finding.unless.search(match.string) is not None:
        return False
    return finding.place is None or _is_own_place(rule, finding.place, match, sentence)


def _is_own_place(rule: LabelRule, place: Place, match: re.Match[str], sentence: Sentence) -> bool:
    """Decide where a finding is, from its item in a list outwards."""
    item = list_item(match.string, match.start())
    if item != match.string:
        if place.own.search(item):
            return True
        if place.foreign.search(item):
            return False
    return sentence.decide_place(rule, place, match.string)
