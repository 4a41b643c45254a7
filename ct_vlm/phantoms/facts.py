"""Reading places back out of a report, to score whether side and lobe are right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from ct_vlm.phantoms.schema import Finding

LOCATED_LABELS: tuple[str, ...] = (
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Consolidation",
    "Bronchiectasis",
)
"""Labels whose side or lobe varies from phantom to phantom (a node station may lie in the middle)."""

_KEYWORDS: dict[str, str] = {
    "Medical material": r"pacemaker|\bport\b|catheter|\bwires?\b|medical material",
    "Arterial wall calcification": r"aort|arterial wall",
    "Cardiomegaly": r"cardiomegaly|heart|cardiothoracic",
    "Pericardial effusion": r"pericardi",
    "Coronary artery wall calcification": r"coronary|circumflex|descending artery",
    "Hiatal hernia": r"hernia",
    "Lymphadenopathy": r"lymph",
    "Emphysema": r"emphysem",
    "Atelectasis": r"\batelecta",
    "Lung nodule": r"nodul",
    "Lung opacity": r"ground[ -]glass",
    "Pulmonary fibrotic sequela": r"sequela",
    "Pleural effusion": r"pleural (?!thick)|pleural space",
    "Mosaic attenuation pattern": r"mosaic",
    "Peribronchial thickening": r"peribronchial|bronchial wall",
    "Consolidation": r"consolidat",
    "Bronchiectasis": r"bronchiecta",
    "Interlobular septal thickening": r"\bsepta",
}
_NEGATION = re.compile(r"\b(no|not|without|free of|absence|neither|nor|normal)\b")
_SIDES = {"left": r"\bleft\b", "right": r"\bright\b"}
_BOTH = re.compile(r"\bboth\b|\bbilateral(ly)?\b")
_LEVEL = re.compile(r"\b(upper|middle|lower) lobes?\b|\b(upper|middle|lower) (?=lobe)")


def find_location(text: str, label: str) -> set[str]:
    """Return the places at which a report states a finding.

    Args:
        text: Report or part of one.
        label: One of ``CT_RATE_LABELS``.

    Returns:
        Lobes such as ``"left upper lobe"`` where the text names them, else ``"left"`` and
        ``"right"``; empty if the finding is denied, absent or stated without a place.

    Raises:
        ConfigError: If the label is unknown.

    Example:
        >>> from ct_vlm.phantoms import find_location
        >>> find_location("No effusion. A 9 mm nodule in the upper lobe of the left lung.", "Lung nodule")
        {'left upper lobe'}
    """
    if label not in CT_RATE_LABELS:
        cause = f"Unknown label `{label}`."
        raise ConfigError(cause, "Use the names of `ct_vlm.text.labels.CT_RATE_LABELS`.")
    places: set[str] = set()
    sentences = re.split(r"[.;\n](?:\s+|$)", text.lower())
    for part in (part for s in sentences if not _NEGATION.search(s) for part in s.split(", ")):
        if re.search(_KEYWORDS[label], part):
            places |= _places(part)
    return places


def expected_location(finding: Finding) -> set[str]:
    """Return what :func:`find_location` gives for a report that states a finding truly.

    Args:
        finding: The fact.

    Returns:
        Names of lobes, or of sides.

    Example:
        >>> from ct_vlm.phantoms import Finding, expected_location
        >>> sorted(expected_location(Finding("Pleural effusion", side="bilateral")))
        ['left', 'right']
    """
    if finding.lobe is not None:
        return {finding.lobe}
    both = finding.side == "bilateral"
    found: set[str] = {"left", "right"} if both else {finding.side} if finding.side else set()
    level = _LEVEL.search(finding.location or "")
    return {f"{side} {level.group(1)} lobe" for side in found} if level else found


def _places(part: str) -> set[str]:
    """Return sides, or lobes where the clause names their level."""
    found = (
        {"left", "right"} if _BOTH.search(part) else {name for name, rule in _SIDES.items() if re.search(rule, part)}
    )
    levels = {match.group(1) or match.group(2) for match in _LEVEL.finditer(part)}
    return {f"{side} {level} lobe" for side in found for level in levels} if levels else found
