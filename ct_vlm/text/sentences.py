"""Split report text into sentences without breaking numbers or abbreviations."""

from __future__ import annotations

import re

_ABBREVIATION = re.compile(
    r"approx|bil|ca|cf|dr|eg|etc|fig|ie|incl|lat|max|med|min|no|post|prof|resp|st|sup|vs", re.IGNORECASE
)
_BOUNDARY = re.compile(
    r"""
      \n+ | [;!"“”«»•·▪●]+          # line ends, quotes and bullets
    | (?<![^\s])[-\u2013*](?=\s+\S)(?=\s*[A-Z])   # a dash or star before a capital: a list item
    | \?(?=\s+\w)                   # a question mark, unless `_is_inner_question` says otherwise
    | \.                            # a full stop, unless `_is_inner_stop` says otherwise
    """,
    re.VERBOSE,
)
_BRACKET_REACH = 200
_LAST_WORD = re.compile(r"([A-Za-z]+)$")


def split_sentences(text: str, *, semicolons: bool = True) -> list[str]:
    """Split a report into sentences.

    Line ends, semicolons, quotation marks, bullets and full stops end a sentence. Full stops inside
    decimals and dates (``3.5 mm``), after ordinals (``4. rib``) and after common abbreviations do
    not, nor does a line end in the middle of a hard-wrapped sentence.

    Args:
        text: Report text.
        semicolons: Whether a semicolon ends a sentence.

    Returns:
        Sentences in order, stripped, with their full stop; pieces without a letter or digit are
        left out.

    Example:
        >>> from ct_vlm.text.sentences import split_sentences
        >>> split_sentences("A 3.5 mm nodule is seen in the 4. segment.Heart size is normal.")
        ['A 3.5 mm nodule is seen in the 4. segment.', 'Heart size is normal.']
    """
    has_capitals = text != text.lower()
    sentences: list[str] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        mark = match.group()
        if mark == ";" and not semicolons:
            continue
        if mark == "." and _is_inner_stop(text, match.start(), has_capitals=has_capitals):
            continue
        if mark == "?" and _is_inner_question(text, start, match.end(), has_capitals=has_capitals):
            continue
        if mark[0] == "\n" and has_capitals and _is_wrapped_line(text, match.start(), match.end()):
            continue
        end = match.end() if mark in ".?!" else match.start()
        _append(sentences, text[start:end])
        start = match.end()
    _append(sentences, text[start:])
    return sentences


def _append(sentences: list[str], piece: str) -> None:
    """Keep a piece that says something; list numbers alone (``1.``) do not."""
    words = " ".join(piece.split())
    if any(character.isalpha() for character in words):
        sentences.append(words)


def _is_inner_stop(text: str, position: int, *, has_capitals: bool) -> bool:
    """Tell whether the full stop at ``position`` belongs to a number or an abbreviation."""
    before = text[position - 1 : position]
    after = text[position + 1 : position + 2]
    if before.isdigit():
        following = text[position + 1 : position + 3].lstrip()[:1]
        return after.isdigit() or (has_capitals and following.isalpha() and following.islower())
    if after.isdigit() and (before.isspace() or not before):
        return True
    word = _LAST_WORD.search(text, max(0, position - 8), position)
    if word is None:
        return False
    following = text[position + 1 : position + 3].lstrip()[:1]
    continues = following.isdigit() or following.islower()
    if len(word.group(1)) == 1:
        return after.isalpha() or (has_capitals and continues)
    return has_capitals and continues and _ABBREVIATION.fullmatch(word.group(1)) is not None


def _is_inner_question(text: str, start: int, end: int, *, has_capitals: bool) -> bool:
    """Tell whether a sentence goes on after a question mark, as in "(bronchiolitis? small vessel disease?)"."""
    if has_capitals:
        return not text[end : end + _BRACKET_REACH].lstrip()[:1].isupper()
    start = max(start, end - _BRACKET_REACH)
    return text.count("(", start, end) > text.count(")", start, end)


def _is_wrapped_line(text: str, start: int, end: int) -> bool:
    """Tell whether a line end only wraps a sentence: the next line goes on in lower case."""
    following = text[end : end + 2].lstrip()[:1]
    return following.islower() and text[:start].rstrip()[-1:] not in {".", ":", ";", "!", "?", '"', ""}
