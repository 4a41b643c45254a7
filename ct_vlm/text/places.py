"""Which side and lobe a sentence names."""

from __future__ import annotations

import re
from dataclasses import dataclass

LOBES: tuple[str, ...] = (
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "left lower lobe",
)
"""The five lobes of the lungs."""

_SIDES = {"right": re.compile(r"\bright\b"), "left": re.compile(r"\bleft\b")}
_BOTH = re.compile(r"\b(?:both|bilateral(?:ly)?|either|each) ?")
# names that hold a side without saying where the finding is
_NAMED = re.compile(r"\b(?:left|right) (?:ventric\w*|atri\w*|main coronary|anterior descending|circumflex|coronary)")
_LEVEL = re.compile(r"\b(upper|middle|lower)(?:[ -](?:and|or)[ -](upper|middle|lower))?[ -](?:lung )?lobes?\b")
_LEVEL_OF_LUNG = re.compile(r"\blung (upper|middle|lower) lobes?\b")
_LINGULA = re.compile(r"\blingul\w+")
_APEX = re.compile(r"\b(?:apex|apices|apical)\b")


@dataclass(frozen=True)
class Places:
    """Sides and lobes that a text names.

    Args:
        sides: ``"right"`` and ``"left"``.
        lobes: Names out of :data:`LOBES`; their sides are in ``sides`` too.
    """

    sides: frozenset[str] = frozenset()
    lobes: frozenset[str] = frozenset()

    @property
    def finest(self) -> frozenset[str]:
        """The lobes where there are any, else the sides."""
        return self.lobes or self.sides


def find_places(text: str) -> Places:
    """Return the sides and lobes that a text names; negation is not looked at.

    A level without a side ("in the lower lobes") means both sides; the middle lobe is the right
    one. The lingula counts as left upper lobe. Chambers and coronary arteries are names, not sides.

    Args:
        text: A sentence or clause.

    Example:
        >>> from ct_vlm.text.places import find_places
        >>> sorted(find_places("Nodules in the upper lobe of the left lung and in the middle lobe.").lobes)
        ['left upper lobe', 'right middle lobe']
        >>> sorted(find_places("Bilateral pleural effusion.").sides)
        ['left', 'right']
    """
    sides: set[str] = set()
    lobes: set[str] = set()
    for clause in re.split(r"[,;]|\band\b(?= in | on | the (?:left|right))", _NAMED.sub(" ", text.lower())):
        found = _sides(clause)
        levels = {level for match in _LEVEL.finditer(clause) for level in match.groups() if level}
        levels |= {match.group(1) for match in _LEVEL_OF_LUNG.finditer(clause)}
        levels |= {"upper"} if _APEX.search(clause) and found else set()
        named = {f"{side} {level} lobe" for level in levels for side in (found or _sides_of(level))}
        named |= {"left upper lobe"} if _LINGULA.search(clause) else set()
        lobes |= named & set(LOBES)
        sides |= found | {lobe.split()[0] for lobe in named & set(LOBES)}
    return Places(frozenset(sides), frozenset(lobes))


def _sides(clause: str) -> set[str]:
    """Return the sides that a clause names."""
    return set(_SIDES) if _BOTH.search(clause) else {side for side, rule in _SIDES.items() if rule.search(clause)}


def _sides_of(level: str) -> set[str]:
    """Return the sides that have a lobe of a level."""
    return {"right"} if level == "middle" else set(_SIDES)
