"""One report out of a text a region, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError
from ct_vlm.text.region_lexicon import OTHER
from ct_vlm.text.regions import MEDREGION_REGIONS, RADGENOME_REGIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KNOWN_REGIONS: tuple[str, ...] = tuple(dict.fromkeys((*MEDREGION_REGIONS, *RADGENOME_REGIONS, OTHER)))
"""Names that headings are looked for under where a call gives none."""


def region_heading(region: str) -> str:
    """Return how a region is called at the head of its text.

    Args:
        region: Name of the region.

    Example:
        >>> from ct_vlm.text.region_reports import region_heading
        >>> region_heading("heart and great vessels")
        'Heart and great vessels'
    """
    return region[:1].upper() + region[1:]


def merge_region_reports(
    reports: Mapping[str, str], regions: Iterable[str] | None = None, *, skip_blank: bool = False
) -> str:
    r"""Return one report of a text a region, a line ``Region: text`` each.

    A line break inside a text is followed by one space in the report, as in folded e-mail headers:
    only a heading ever opens a line with something else. :func:`parse_region_reports` therefore
    gives back exactly what was merged, whatever the texts hold.

    Args:
        reports: Region to text.
        regions: Canonical order; regions that it does not name follow in their own order, and those
            without a text are left out. None takes the order of ``reports``.
        skip_blank: Whether regions whose text is blank are left out.

    Raises:
        ConfigError: If names are blank, hold a colon or a line break, or are equal but for case.

    Example:
        >>> from ct_vlm.text import merge_region_reports
        >>> merge_region_reports({"heart": "Normal size.", "lung": "Clear.\nNo nodule."}, ["lung", "heart"])
        'Lung: Clear.\n No nodule.\nHeart: Normal size.'

    References:
        MedRegion-CT, arXiv 2506.23102, merges the texts of six regions; the form is inferred.
    """
    order = dict.fromkeys([*(regions or ()), *reports])
    names = check_regions([name for name in order if name in reports])
    kept = [name for name in names if reports[name].strip() or not skip_blank]
    return "\n".join(f"{region_heading(name)}: " + reports[name].replace("\n", "\n ") for name in kept)


def parse_region_reports(report: str, regions: Iterable[str] | None = None) -> dict[str, str]:
    r"""Return the text of each region of a merged report.

    A heading is a region's name and a colon at the very start of a line, in any case. Everything
    else belongs to the heading before it. Text before the first heading, which a merged report does
    not have, is returned as ``"other"``.

    Args:
        report: What :func:`merge_region_reports` returned, or a model's text of that form.
        regions: Names that may head a text; MedRegion-CT's six and RadGenome-ChestCT's ten if None.

    Returns:
        Region to text, in the order of the report; texts of a region that is headed twice are
        joined by a line break.

    Raises:
        ConfigError: If names are blank, hold a colon or a line break, or are equal but for case.

    Example:
        >>> from ct_vlm.text import parse_region_reports
        >>> parse_region_reports("Lung: Clear: no nodule.\nBone: No fracture.")
        {'lung': 'Clear: no nodule.', 'bone': 'No fracture.'}
    """
    names = _by_heading(check_regions(KNOWN_REGIONS if regions is None else list(regions)))
    found: dict[str, list[str]] = {}
    current = OTHER
    for number, line in enumerate(report.split("\n")):
        head, colon, text = line.partition(":")
        if colon and head.lower() in names:
            current = names[head.lower()]
            found.setdefault(current, []).append(text.removeprefix(" "))
        elif number or line.strip():
            found.setdefault(current, []).append(line.removeprefix(" "))
    return {name: "\n".join(lines) for name, lines in found.items()}


def strip_region_prefixes(report: str, regions: Iterable[str] | None = None) -> str:
    r"""Return a report without the headings of its regions, for scores of word overlap.

    References of a data set have no headings; left in, they count as words of the report. Headings
    go where they open a line or follow the end of a sentence, with the line breaks between regions.

    Args:
        report: A merged report, on several lines or on one.
        regions: Names of the regions; MedRegion-CT's six and RadGenome-ChestCT's ten if None.

    Raises:
        ConfigError: If names are blank, hold a colon or a line break, or are equal but for case.

    Example:
        >>> from ct_vlm.text import strip_region_prefixes
        >>> strip_region_prefixes("Lung: Clear.\nHeart and great vessels: Normal. Upper abdomen: No stone.")
        'Clear. Normal. No stone.'
    """
    names = check_regions(KNOWN_REGIONS if regions is None else list(regions))
    longest = sorted((region_heading(name) for name in names), key=len, reverse=True)
    heads = "|".join(re.escape(head) for head in longest)
    return " ".join(re.sub(rf"(?m)(^|(?<=[.!?])[ \t]+)(?:{heads}):[ \t]*", r"\1", report).split())


def check_regions(regions: Sequence[str]) -> tuple[str, ...]:
    """Return names of regions that can head a text.

    Args:
        regions: The names.

    Raises:
        ConfigError: If one is blank, holds a colon or a line break, or two are equal but for case.

    Example:
        >>> from ct_vlm.text.region_reports import check_regions
        >>> check_regions(["lung", "heart"])
        ('lung', 'heart')
    """
    wrong = [name for name in regions if not name.strip() or name != name.strip() or ":" in name or "\n" in name]
    cure = "Use names without colons, line breaks and outer spaces, each once."
    if wrong:
        cause = f"{wrong[0]!r} cannot head the text of a region."
        raise ConfigError(cause, cure)
    headings = _by_heading(regions)
    twice = [name for name in regions if headings[name.lower()] != name or regions.count(name) > 1]
    if twice:
        cause = f"The region {twice[0]!r} is named twice in {list(regions)}."
        raise ConfigError(cause, cure)
    return tuple(regions)


def _by_heading(regions: Sequence[str]) -> dict[str, str]:
    """Return what a heading may be in lower case, and the region it is of."""
    # capitals of some letters are others in lower case again
    return {key: name for name in regions for key in (name.lower(), region_heading(name).lower())}
