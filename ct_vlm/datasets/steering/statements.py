"""Statements of a report: its sentences, each with the region that it is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.text.region_lexicon import find_region
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

# Inferred: how a sentence goes on about the one before, which names the region.
_POINTS_BACK = re.compile(
    r"\b(?:largest|biggest|widest|thickest|it|its|they|their|them|these|this|those|some|others?|one of|most of"
    r"|adjacent|accompanying|findings? (?:is|are|was|were)"
    r"|the (?:lesion|finding|collection|cyst|appearance|diverticulum|tumou?r|aneurysm|densit(?:y|ies)|thickness)s?)\b",
    re.IGNORECASE,
)
# how a part goes on after a semicolon: with what it may be, or in lower case without a region of its own
_READING = re.compile(r"[a-z].*\?$|.*\b(?:(?:compatible|consistent) with|suggest\w+|suspicious|in favou?r of)\b")
_SEMICOLON = re.compile(r";(?![^()]*\))")


class Statement(NamedTuple):
    """What may become an entry of a list.

    Args:
        text: The statement, as the report has it.
        region: What it is about; "" if neither its words nor those that it points back to say so.
        parts: Its parts between semicolons.
    """

    text: str
    region: str
    parts: tuple[str, ...]


def find_statements(text: str) -> list[Statement]:
    """Return the statements of a text in order.

    A sentence is one statement, unless it has semicolons: a part that points back ("some calcified"), that says
    what the part before may be ("tuberculosis?"), or that goes on in lower case without a region of its own
    stays with the part before; others stand alone. The region is the one that the statement's first part with
    any names. Without it is that of the statement before, but only if the sentence points back, or goes on
    after a semicolon.

    Args:
        text: A report, or a part of one.

    Example:
        >>> from ct_vlm.datasets.steering.statements import find_statements
        >>> report = "Enlarged hilar lymph nodes; some calcified. Diverticulum of 15 mm."
        >>> for text, region, _ in find_statements(report):
        ...     print(repr(region), text)
        'mediastinum' Enlarged hilar lymph nodes; some calcified.
        '' Diverticulum of 15 mm.
    """
    found: list[Statement] = []
    before = ""
    for sentence in split_sentences(text, semicolons=False):
        for place, parts in enumerate(_statements_of(sentence)):
            region = next(filter(None, map(find_region, parts)), "")
            if not region and (place or _POINTS_BACK.search(parts[0])):
                region = before
            before = region
            found.append(Statement("; ".join(parts), region, tuple(parts)))
    return found


def _statements_of(sentence: str) -> Iterator[list[str]]:
    """Yield the parts of each statement of a sentence."""
    parts: list[str] = []
    for piece in _SEMICOLON.split(sentence):
        part = piece.strip()
        if not any(character.isalpha() for character in part):
            continue
        goes_on = part[0].islower() and find_region(part) is None
        if parts and not (goes_on or _POINTS_BACK.search(part) or _READING.match(part)):
            yield parts
            parts = []
        parts.append(part)
    if parts:
        yield parts
