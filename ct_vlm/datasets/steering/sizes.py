"""Sizes that a sentence gives in millimetres or centimetres."""

from __future__ import annotations

import functools
import re

_NUMBER = r"\d+(?:[.,]\d+)?"
_SIZE = re.compile(
    rf"(?<![\d.,])(?P<article>\ban? )?(?P<size>{_NUMBER}(?:(?: ?(?:mm|cm))? ?[x\u00d7*-] ?{_NUMBER})*)"
    r"(?= ?(?P<unit>mm|cm)\b)",
    re.IGNORECASE,
)
_PART = re.compile(rf"(?P<number>{_NUMBER})(?P<unit> ?(?:mm|cm))?", re.IGNORECASE)
# said with a bound, or with a word that another size may make untrue or leave true
_JUDGED = re.compile(
    r"\b(?:\w*normal\w*|enlarg\w*|dilat\w*|wider|widen\w*|ectasi\w*|ectatic|aneurysm\w*|increas\w*|decreas\w*|patholog\w*"
    r"|(?:small|larg|bigg|few|low|high|great|thick|thinn)er than|(?:less|more) than|exceed\w*|under|over"
    r"|below|above|at least|at most)\b|[<>\u2264\u2265]",
    re.IGNORECASE,
)
# "an" before eight, eleven, eighteen and what starts with eighty or eight hundred
_VOWEL = re.compile(r"8|1[18](?!\d)")
_MM_OF = {"mm": 1.0, "cm": 10.0}
_SMALLEST_MM, _LARGEST_MM = 2.0, 100.0


def sizes_mm(text: str) -> list[tuple[float, ...]]:
    """Return the sizes of a text in mm, one number for each extent.

    Args:
        text: A sentence.

    Example:
        >>> from ct_vlm.datasets.steering.sizes import sizes_mm
        >>> sizes_mm("A 1.5x1 cm nodule beside one of 8 mm.")
        [(15.0, 10.0), (8.0,)]
    """
    return [tuple(_parts_mm(match)) for match in _SIZE.finditer(text)]


def scale_sizes(text: str, factor: float) -> str:
    """Return a text with its sizes times a factor; articles follow.

    Sizes that would leave 2 to 100 mm stay, and so do all of a text that calls something normal,
    enlarged or wide, or gives a bound: there another size may contradict the words, or still be true.

    Args:
        text: A sentence.
        factor: The factor.

    Example:
        >>> from ct_vlm.datasets.steering.sizes import scale_sizes
        >>> scale_sizes("A 16 mm nodule.", 0.5), scale_sizes("A cyst of 3 cm.", 0.5)
        ('An 8 mm nodule.', 'A cyst of 1.5 cm.')
        >>> scale_sizes("Aorta of 42 mm, wider than normal.", 0.5)
        'Aorta of 42 mm, wider than normal.'
    """
    return text if _JUDGED.search(text) else _SIZE.sub(functools.partial(_scaled, factor=factor), text)


def _parts_mm(match: re.Match[str]) -> list[float]:
    """Return the numbers of a size in mm; those without a unit have the last one."""
    return [
        float(part["number"].replace(",", ".")) * _MM_OF[(part["unit"] or match["unit"]).strip().lower()]
        for part in _PART.finditer(match["size"])
    ]


def _scaled(match: re.Match[str], factor: float) -> str:
    """Return a size times a factor, with its article; the size as it is if the result is not plausible."""
    if any(not _SMALLEST_MM <= size * factor <= _LARGEST_MM for size in _parts_mm(match)):
        return match.group()
    size = _PART.sub(lambda part: _times(part, match["unit"], factor), match["size"])
    article = match["article"] or ""
    return (article[:1] + ("n " if _VOWEL.match(size) else " ") if article else "") + size


def _times(part: re.Match[str], last_unit: str, factor: float) -> str:
    """Return a number times a factor, with its own mark and unit: whole mm stay whole, cm get a decimal if needed."""
    number, unit = part["number"], part["unit"] or ""
    value = float(number.replace(",", ".")) * factor
    is_written_whole = "." not in number and "," not in number
    is_cm = (unit or last_unit).strip().lower() == "cm"
    is_whole = is_written_whole and (not is_cm or value.is_integer())
    written = f"{max(1, round(value))}" if is_whole else f"{value:.1f}"
    return (written.replace(".", ",") if "," in number else written) + unit
