"""Reading a list of abnormalities that a model wrote: whatever can be read, and what could not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ct_vlm.errors import DatasetError
from ct_vlm.text.abnormality_lists import (
    NONE_ENTRY,
    STEERING_REGIONS,
    Abnormality,
    parse_abnormalities,
    steering_region,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ProblemKind = Literal[
    "truncated", "unknown region", "no region", "blank", "duplicate", "outside", "contradiction", "empty"
]
"""What may be wrong with a part of a list; see :func:`read_abnormalities`."""

_NONE = re.compile(r"\(?\s*none\s*\.?\s*\)?", re.IGNORECASE)
_NOTHING = re.compile(
    r"(?:none|nil|n/?a|-+|(?:is |are )?(?:normal|unremarkable)|no (?:\w+ )?(?:abnormalit(?:y|ies)|findings?)"
    r"(?: (?:is|are|was|were))?(?: (?:seen|observed|detected|found|noted|present))?)\s*\.?",
    re.IGNORECASE,
)
_NEXT_ENTRY = re.compile(rf"\)\s*\(\s*(?:{'|'.join(STEERING_REGIONS.values())})\s*:", re.IGNORECASE)
_HEADED = re.compile(r"\(\s*[^():\n]{1,40}:")


class Problem(NamedTuple):
    """What could not be read as it stood.

    Args:
        kind: What is wrong with it.
        text: The part of the list.
    """

    kind: ProblemKind
    text: str


@dataclass(frozen=True)
class ReadAbnormalities:
    """A list as far as it could be read.

    Args:
        entries: The entries, each once.
        problems: What was wrong, in the order of the text.
    """

    entries: tuple[Abnormality, ...]
    problems: tuple[Problem, ...] = ()


def read_abnormalities(text: str) -> ReadAbnormalities:
    r"""Read a list from any text and report what could not be read.

    Regions may be in any case and several entries on one line. What says of a region that it has no
    abnormality, ``(Heart: None)`` or ``(Heart: Normal.)``, is no entry. Problems are:

    ================== ===================================== ====================
    kind               what                                  the entry
    ================== ===================================== ====================
    ``truncated``      no closing bracket                    kept
    ``unknown region`` a heading that is no region           left out
    ``no region``      brackets without a heading            left out
    ``blank``          a region without a text               left out
    ``duplicate``      an entry that was read before         kept once
    ``outside``        text outside brackets                 left out
    ``contradiction``  ``(None)`` beside entries             ``(None)`` left out
    ``empty``          no entry and no ``(None)``            none
    ================== ===================================== ====================

    Args:
        text: A model's list, or what :func:`ct_vlm.text.render_abnormalities` wrote: that is read as it
            was, unless an entry says that there is nothing, has an unclosed bracket or what looks like the next
            entry inside.

    Example:
        >>> from ct_vlm.text import read_abnormalities
        >>> found = read_abnormalities("(lung: A nodule.) (Brain: Bleeding.)\n(Heart: Cardiome")
        >>> [tuple(entry) for entry in found.entries]
        [('lung', 'A nodule.'), ('heart', 'Cardiome')]
        >>> [problem.kind for problem in found.problems]
        ['unknown region', 'truncated']
    """
    problems: list[Problem] = []
    exact = _exact(text)
    entries, says_none = _entries(text, problems) if exact is None else (list(exact), text == NONE_ENTRY)
    stated = [entry for entry in entries if not _NOTHING.fullmatch(entry.text.strip())]
    kept = _kept(stated, problems)
    if says_none and kept:
        problems.append(Problem("contradiction", NONE_ENTRY))
    if not (kept or says_none or len(stated) < len(entries)):
        problems.append(Problem("empty", text.strip()))
    return ReadAbnormalities(kept, tuple(problems))


def _exact(text: str) -> tuple[Abnormality, ...] | None:
    """Return the entries of a list in the exact form, unless lines look as if a model wrote them otherwise.

    A line may hold several entries, and its last bracket may close one inside an entry that was cut off.
    """
    try:
        entries = parse_abnormalities(text)
    except DatasetError:
        return None
    is_odd = any(_NEXT_ENTRY.search(entry.text) or entry.text.count("(") > entry.text.count(")") for entry in entries)
    return None if is_odd else entries


def _kept(entries: Sequence[Abnormality], problems: list[Problem]) -> tuple[Abnormality, ...]:
    """Return the entries with a text, each once."""
    kept: dict[Abnormality, None] = {}
    for entry in entries:
        if not entry.text.strip():
            problems.append(Problem("blank", entry.region))
        elif entry in kept:
            problems.append(Problem("duplicate", entry.text))
        else:
            kept[entry] = None
    return tuple(kept)


def _entries(text: str, problems: list[Problem]) -> tuple[list[Abnormality], bool]:
    """Return what can be read of a text, and whether it says that there is nothing."""
    entries: list[Abnormality] = []
    says_none = False
    for piece, is_closed in _pieces(text):
        if _NONE.fullmatch(piece):
            says_none = True
        elif not piece.startswith("("):
            problems.append(Problem("outside", piece))
        else:
            entry = _entry(piece[1:-1] if is_closed else piece[1:], problems)
            if entry is not None:
                entries.append(entry)
                if not is_closed:
                    problems.append(Problem("truncated", piece))
    return entries, says_none


def _entry(inner: str, problems: list[Problem]) -> Abnormality | None:
    """Read what stands between brackets."""
    head, colon, text = inner.partition(":")
    region = steering_region(head)
    if region is None:
        problems.append(Problem("unknown region" if colon else "no region", inner.strip()))
        return None
    return Abnormality(region, text.strip())


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yield bracketed parts and what stands outside, stripped, and whether their bracket was closed.

    A heading at the start of a line opens an entry even where the one before was not closed.
    """
    start = depth = 0
    for position, mark in enumerate(text):
        if mark == "(" and (depth == 0 or (_opens_line(text, position) and _HEADED.match(text, position))):
            yield from _piece(text[start:position], is_closed=False)
            start, depth = position, 1
        elif mark == "(":
            depth += 1
        elif mark == ")" and depth:
            depth -= 1
            if depth == 0:
                yield from _piece(text[start : position + 1], is_closed=True)
                start = position + 1
    yield from _piece(text[start:], is_closed=False)


def _opens_line(text: str, position: int) -> bool:
    """Tell whether only blanks stand before a position in its line."""
    return not text[text.rfind("\n", 0, position) + 1 : position].strip()


def _piece(part: str, *, is_closed: bool) -> Iterator[tuple[str, bool]]:
    """Yield a part that is not blank."""
    if part.strip():
        yield part.strip(), is_closed
