"""What a rule of the labeler is: data that the lexicon files fill in."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True)
class Place:
    """Where a finding must be, for words that name findings of several organs ("nodule").

    Decided by the first of these that mentions a place: the clause (own place wins), the sentence,
    and, if the sentence only refers back ("the largest is 5 mm"), the sentence before. Then a
    sentence right after one about a ``lasting`` place is taken to go on about it. Otherwise
    ``default``.

    Args:
        own: Pattern of places that belong to the label.
        foreign: Pattern of places that do not.
        default: Whether a finding without a place belongs to the label.
        lasting: Pattern of foreign places that reports describe in several sentences.
    """

    own: re.Pattern[str]
    foreign: re.Pattern[str]
    default: bool = True
    lasting: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Finding:
    """One way of stating a label.

    Args:
        name: Short name, shown by ``explain``.
        words: Pattern of the words.
        unless: Pattern that must not match in the clause.
        place: Where the finding must be.
    """

    name: str
    words: re.Pattern[str]
    unless: re.Pattern[str] | None = None
    place: Place | None = None


@dataclass(frozen=True)
class LabelRule:
    """Every way of stating one label.

    Args:
        label: Name in ``CT_RATE_LABELS``.
        stems: Pattern of parts of words; a sentence in which it fits no word is skipped unread.
        findings: The ways of stating the label.
        also: Pattern that has to fit a word of the sentence as well.
        rewrites: Replaced in the clause before the findings are looked for: phrases that contain
            the same words and mean something else become a neutral word.
    """

    label: str
    stems: re.Pattern[str]
    findings: tuple[Finding, ...]
    also: re.Pattern[str] | None = None
    rewrites: tuple[tuple[re.Pattern[str], str], ...] = ()


def stems(text: str) -> re.Pattern[str]:
    """Compile space-separated parts of words; ``^`` ties one to the word's start."""
    return re.compile("|".join(text.split()))


def any_of(*alternatives: str) -> str:
    """Join patterns into one that matches any of them; for use inside a longer pattern put it in a group."""
    return "|".join(alternatives)


def words(*alternatives: str) -> re.Pattern[str]:
    """Compile alternatives for normalised (lower-case, single-spaced) text; spaces in them are literal."""
    branches = _branches(any_of(*alternatives))
    if len(branches) > 1 and all(branch.startswith(r"\b") for branch in branches):
        # asked once at each position, the common boundary saves trying every branch there
        return re.compile(rf"\b(?:{'|'.join(branch[2:] for branch in branches)})")
    return re.compile("|".join(branches))


def _branches(pattern: str) -> list[str]:
    """Split a pattern at the bars outside every group."""
    branches = [""]
    depth = 0
    for piece in re.findall(r"\\.|\[(?:\\.|[^\]])*\]|.", pattern):
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            branches.append("")
        else:
            branches[-1] += piece
    return branches


def within(limit: int, *stops: str) -> str:
    """Return a pattern for up to ``limit`` words between two words, none of them a stop word.

    Args:
        limit: Most words in between.
        stops: Beginnings of words that end the reach, e.g. ``"pericard"``.
    """
    guard = rf"(?!{'|'.join(stops)})" if stops else ""
    return rf"(?:[ ,]+{guard}\w+){{0,{limit}}}?[ ,]+"


def rewrite(*alternatives: str, to: str = "") -> tuple[re.Pattern[str], str]:
    """Return a rewrite of a label rule: any of the alternatives becomes ``to``."""
    return words(*alternatives), to


def change_rules(
    rules: Sequence[LabelRule], extra: Mapping[str, Sequence[str]], without: Collection[str]
) -> tuple[LabelRule, ...]:
    """Return rules with a user's own phrases added and some findings switched off.

    Args:
        rules: The rules to start from.
        extra: Label to regular expressions for normalised text; they become findings called
            "extra".
        without: Names of findings to switch off.

    Raises:
        ConfigError: If a label or a finding does not exist, or an expression does not compile.
    """
    _check_known("label", extra, {rule.label for rule in rules})
    _check_known("finding", without, {finding.name for rule in rules for finding in rule.findings})
    changed = []
    for rule in rules:
        findings = tuple(finding for finding in rule.findings if finding.name not in without)
        if rule.label in extra:
            # no stem is known for a user's expression: every sentence is read for the label
            own = Finding("extra", _compiled(rule.label, extra[rule.label]))
            changed.append(replace(rule, findings=(*findings, own), stems=re.compile(""), also=None))
        else:
            changed.append(replace(rule, findings=findings))
    return tuple(changed)


def _check_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    """Refuse names that do not exist."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        cause = f"Unknown {kind} {', '.join(map(repr, unknown))}."
        raise ConfigError(cause, f"Choose from: {', '.join(sorted(known))}.")


def _compiled(label: str, patterns: Sequence[str]) -> re.Pattern[str]:
    """Compile a user's expressions for a label."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            cause = f"The expression {pattern!r} for {label!r} does not compile: {error}."
            raise ConfigError(cause, "Give a regular expression for lower-case text.") from error
    return words(*(f"(?:{pattern})" for pattern in patterns))
