"""Phrases of a finding in forms that stand for those of others: a head noun can be put in another's place.

Forms differ in grammar: ``many`` is a plural, ``one`` takes an article, ``mass`` takes none, and
``clause`` has a verb. Place, size, side and number stay outside the phrase.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

from ct_vlm.text.finding_signs import SIGNS

Form = Literal["many", "one", "mass", "clause"]

_SIZE = re.compile(r"\d ?(?:mm|cm)\b", re.IGNORECASE)
_FORMS: tuple[Form, ...] = ("clause", "many", "one", "mass")


@dataclass(frozen=True)
class FindingPhrases:
    """One finding: how its phrases are found, and how it is said.

    Args:
        name: Its name.
        label: Its label in ``CT_RATE_LABELS``, or None.
        said: Words of each form.
        found: Regular expression of each form, for any case. A group ``kept`` stays in the text.
        kinds: Expressions of adjectives that only this finding has; they go with it.
        where: Expressions of adjectives among those that say where it is; they stay.
        has_size: Whether it can be measured in millimetres.
        clash: Expression of words that cannot be said of it, or "".
        needs: Expression of words of which one must be said with it, or "".
        also: Expression of all that may mean it, for text in lower case with hyphens as blanks; never
            what is replaced.
    """

    name: str
    label: str | None
    said: dict[Form, str]
    found: dict[Form, str]
    kinds: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    has_size: bool = True
    clash: str = ""
    needs: str = ""
    also: str = ""

    def suits(self, text: str) -> bool:
        """Tell whether the finding can be said with everything else that a sentence says.

        Args:
            text: The sentence.
        """
        if not self.has_size and _SIZE.search(text):
            return False
        if self.needs and not _has_word(self.needs, text):
            return False
        return not (self.clash and _has_word(self.clash, text))

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds a phrase; the group of its form says which form it has."""
        adjectives = "|".join((*self.kinds, *self.where))
        before = rf"(?P<before>(?:(?:{adjectives})[ -]+)*)" if adjectives else ""
        forms = "|".join(f"(?P<{form}>{self.found[form]})" for form in _FORMS if form in self.found)
        return re.compile(rf"(?<![\w-]){before}(?:{forms})(?![\w-])", re.IGNORECASE)

    @functools.cached_property
    def signs(self) -> re.Pattern[str]:
        """Finds whatever may mean the finding, in text in lower case with hyphens as blanks."""
        return re.compile(rf"(?<![a-z])(?:{self.also})(?![a-z])" if self.also else r"(?!)")

    @functools.cached_property
    def _places(self) -> re.Pattern[str]:
        """Finds adjectives of place."""
        return re.compile(rf"\b(?:{'|'.join(self.where)})\b" if self.where else r"(?!)", re.IGNORECASE)

    def kept(self, match: re.Match[str]) -> str:
        """Return what a match of the pattern holds that stays when the finding goes: words of place.

        Args:
            match: The match.
        """
        groups = match.groupdict()
        found = self._places.findall(groups.get("before") or "")
        return "".join(f"{word} " for word in (*found, (groups.get("kept") or "").strip()) if word)


def form_of(match: re.Match[str]) -> Form:
    """Return the form of a phrase that a finding's pattern matched.

    Args:
        match: The match.

    Example:
        >>> from ct_vlm.text.finding_phrases import FINDINGS, form_of
        >>> form_of(FINDINGS["nodule"].pattern.search("Two nodules."))
        'many'
    """
    groups = match.groupdict()
    return next(form for form in _FORMS if groups.get(form) is not None)


def _has_word(words: str, text: str) -> bool:
    """Tell whether a text holds a word that an expression matches."""
    return re.search(rf"\b(?:{words})\b", text, re.IGNORECASE) is not None


def finding(
    name: str,
    label: str | None = None,
    *,
    kinds: str = "",
    where: str = "",
    said: dict[Form, str],
    found: dict[Form, str] | None = None,
    has_size: bool = True,
    clash: str = "",
    needs: str = "",
) -> FindingPhrases:
    """Return a finding; it is found as it is said, and as ``found`` says.

    Args:
        name: Its name, one of ``SIGNS``.
        label: Its label, or None.
        kinds: Adjectives that go with it, between bars.
        where: Adjectives that stay, between bars.
        said: Words of each form.
        found: Further expressions of each form.
        has_size: Whether it can be measured in millimetres.
        clash: Words that cannot be said of it.
        needs: Words of which one must be said with it.
    """
    more = found or {}
    patterns: dict[Form, str] = {
        form: "|".join(filter(None, (more.get(form, ""), _either_hyphen(said.get(form, "")))))
        for form in _FORMS
        if form in said or form in more
    }
    adjectives, places = (tuple(filter(None, words.split("|"))) for words in (kinds, where))
    return FindingPhrases(name, label, said, patterns, adjectives, places, has_size, clash, needs, SIGNS[name])


def _either_hyphen(words: str) -> str:
    """Return an expression of words that takes blanks for hyphens, too."""
    return re.escape(words).replace(r"\-", "[ -]")
