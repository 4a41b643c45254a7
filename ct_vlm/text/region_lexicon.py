"""Which region a sentence of a report is about, by the words of :mod:`ct_vlm.text.region_words`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError
from ct_vlm.text.region_words import FINDINGS, ORGANS, PHRASES
from ct_vlm.text.regions import MEDREGION_REGIONS, RADGENOME_REGIONS, RADGENOME_TO_MEDREGION
from ct_vlm.text.sections import split_sections
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OTHER = "other"
"""Name of what belongs to no region."""

SCHEMES: dict[str, tuple[str, ...]] = {"radgenome": RADGENOME_REGIONS, "medregion": MEDREGION_REGIONS}

_TIERS = tuple(
    re.compile(
        r"(?<![a-z])(?:"
        + "|".join(f"(?P<r{RADGENOME_REGIONS.index(region)}>{words})" for region, words in tier.items())
        + r")(?![a-z])"
    )
    for tier in (PHRASES, ORGANS, FINDINGS)
)


def find_region(sentence: str) -> str | None:
    """Return the region that a sentence is about.

    Args:
        sentence: One sentence.

    Returns:
        One of :data:`~ct_vlm.text.regions.RADGENOME_REGIONS`, or None.

    Example:
        >>> from ct_vlm.text.region_lexicon import find_region
        >>> find_region("Pleural effusion beside the right lower lobe."), find_region("A 5 mm nodule is seen.")
        ('pleura', 'lung')
    """
    text = sentence.lower()
    for tier in _TIERS:
        if match := tier.search(text):
            return RADGENOME_REGIONS[int((match.lastgroup or "r0")[1:])]
    return None


def split_regions(report: str, scheme: str = "radgenome", *, carry: bool = True) -> dict[str, str]:
    """Split a report into the text of each region.

    Args:
        report: A whole report; of one with headers only the findings are split (the impressions
            where there are none).
        scheme: ``"radgenome"`` (ten regions) or ``"medregion"`` (six).
        carry: A sentence without a word of any region ("It measures 5 mm.") goes on about the region
            before it; else it goes to ``"other"``.

    Returns:
        Regions that the report mentions, in the order of the scheme, ``"other"`` last.

    Raises:
        ConfigError: If the scheme is unknown.

    Example:
        >>> from ct_vlm.text.region_lexicon import split_regions
        >>> split_regions("Heart size is normal. Lungs are clear. No pericardial effusion.")
        {'heart': 'Heart size is normal. No pericardial effusion.', 'lung': 'Lungs are clear.'}
    """
    check_scheme(scheme)
    sections = split_sections(report)
    found: dict[str, list[str]] = {}
    before = OTHER
    for sentence in split_sentences(sections.findings or sections.impressions):
        region = find_region(sentence) or (before if carry else OTHER)
        found.setdefault(region, []).append(sentence)
        before = region
    return merge_regions({region: " ".join(sentences) for region, sentences in found.items()}, scheme)


def merge_regions(region_reports: Mapping[str, str], scheme: str = "radgenome") -> dict[str, str]:
    """Return region texts under the names of a scheme; blank ones are left out.

    Args:
        region_reports: Region to text, with the names of either scheme.
        scheme: ``"radgenome"`` or ``"medregion"``. Ten regions can be merged to six, not the reverse.

    Raises:
        ConfigError: If the scheme or a region is unknown.

    Example:
        >>> from ct_vlm.text.region_lexicon import merge_regions
        >>> merge_regions({"pleura": "No effusion.", "lung": "Lungs are clear."}, "medregion")
        {'lung': 'Lungs are clear. No effusion.'}
    """
    names = check_scheme(scheme)
    order = [*RADGENOME_REGIONS, *MEDREGION_REGIONS, OTHER]
    joined: dict[str, list[str]] = {}
    for region in sorted(region_reports, key=_position(order)):
        target = region if region in (*names, OTHER) else RADGENOME_TO_MEDREGION.get(region, "")
        if target not in (*names, OTHER):
            cause = f"Region {region!r} is none of {names}."
            raise ConfigError(cause, "Use the names of one scheme; six regions cannot be split into ten.")
        text = region_reports[region].strip()
        if text:
            joined.setdefault(target, []).append(text)
    return {name: " ".join(joined[name]) for name in (*names, OTHER) if name in joined}


def check_scheme(scheme: str) -> tuple[str, ...]:
    """Return the regions of a scheme.

    Args:
        scheme: ``"radgenome"`` or ``"medregion"``.

    Raises:
        ConfigError: If it is unknown.
    """
    if scheme not in SCHEMES:
        cause = f"Unknown scheme of regions {scheme!r}."
        raise ConfigError(cause, f"Choose from {sorted(SCHEMES)}.")
    return SCHEMES[scheme]


def _position(order: list[str]) -> Callable[[str], int]:
    """Return a key that sorts regions, with lung before what is merged into it."""
    first = {"lung": -1}
    return lambda region: first.get(region, order.index(region) if region in order else len(order))
