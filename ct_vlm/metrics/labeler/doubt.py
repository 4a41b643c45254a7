"""Decide whether words in a clause are left open ("may be", "cannot be ruled out", a question mark)."""

from __future__ import annotations

import re

from ct_vlm.metrics.labeler.normalise import list_item

OPEN = "unexcluded"
"""What a phrase like "cannot be ruled out" becomes in a normalised sentence."""

_BEFORE = re.compile(
    rf"\b(?:may|might|could|possib\w+|probab\w+|suspicio\w+|{OPEN}|suspect\w*|questionabl\w+|doubtful|likely"
    r"|differential diagnos\w+|to rule out|in question)\b"
)
_AFTER = re.compile(
    r"\b(?:is|are|was|were|be) (?:\w+ly )?"
    r"(?:suspected|possible|probable|questionable|doubtful|likely|suspicious(?! for| in))\b"
    r"|\b(?:may|might|could) (?:\w+ )?be (?:present|seen|there)\b"
    rf"|\b{OPEN}\b"
)
_QUESTION = re.compile(r"(?: \w+){0,3}\?")


def find_doubt(clause: str, start: int, end: int) -> str:
    """Return the cue that leaves ``clause[start:end]`` open, or "" if none does.

    A question mark counts within three words after the finding; "consolidation (pneumonia?)" doubts
    the cause, not the consolidation. Other cues count within the finding's item of a list.

    Args:
        clause: Normalised clause.
        start: Where the finding's words start.
        end: Where they end.

    Example:
        >>> from ct_vlm.metrics.labeler.doubt import find_doubt
        >>> find_doubt("appearance may be compatible with consolidation", 34, 47)
        'may'
    """
    if _QUESTION.match(clause, end):
        return "?"
    item = list_item(clause, start)
    item_start = clause.rfind(item, 0, start + len(item))
    before = _BEFORE.search(clause, max(item_start, 0), start)
    if before is not None:
        return before.group()
    after = _AFTER.search(clause, end, max(item_start, 0) + len(item))
    return "" if after is None else after.group()
