"""Ways of making one entry of a list wrong."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Literal

from ct_vlm.text.abnormality_lists import Abnormality
from ct_vlm.text.confusions import confusions_of, swap_finding
from ct_vlm.text.finding_phrases import FINDINGS
from ct_vlm.text.laterality import swap_laterality
from ct_vlm.text.places import find_places
from ct_vlm.text.positive_templates import POSITIVE_TEMPLATES
from ct_vlm.text.region_lexicon import find_region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ct_vlm.datasets.steering.truth import Truth

Strategy = Literal["confusion", "side", "size", "omission", "insertion", "random"]
"""What a wrong list has in place of the truth; see :class:`ct_vlm.datasets.steering.HardNegatives`."""

Options = list["Abnormality | None"]
"""What may stand in place of an entry; None for nothing."""

_PAIRED = frozenset({"lung", "pleura", "breast", "thyroid", "bone", "mediastinum", "heart"})
_UNPAIRED_WORDS = re.compile(
    r"\b(?:both|bilateral\w*|middle|lingul\w*|liver|spleen|gall ?bladder|aort\w+)\b", re.IGNORECASE
)
_SIZE = re.compile(
    r"(?<![\d.,])\d+(?:[.,]\d+)?(?:(?: ?mm| ?cm)? ?[x\u00d7*-] ?\d+(?:[.,]\d+)?)*(?= ?(?:mm|cm)\b)", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_FACTORS = (0.5, 2.0)
_SMALLEST_MM, _LARGEST_MM = 2.0, 100.0


def confusion_options(entry: Abnormality, truth: Truth) -> Options:
    """Return the entry with its finding replaced by one that it is taken for.

    Args:
        entry: The entry.
        truth: What is true of the patient.
    """
    options: Options = []
    before = truth.labels_of(entry.text)
    for row in confusions_of(entry.region, entry.text):
        old, new = FINDINGS[row.old], FINDINGS[row.new]
        text = None if truth.names(new) else swap_finding(entry.text, old, new)
        if text is None or (old.label is not None and old.label not in before):
            continue
        wanted = (before - {old.label}) | ({new.label} if new.label else set())
        # what the labeler does not read as this swap and nothing else is left out
        if truth.labels_of(text) == wanted:
            options.append(Abnormality(entry.region, text))
    return options


def side_options(entry: Abnormality, truth: Truth) -> Options:
    """Return the entry on the other side of the body.

    Args:
        entry: The entry.
        truth: What is true of the patient.
    """
    text = swap_laterality(entry.text)
    before, after = find_places(entry.text), find_places(text)
    is_one_sided = len(before.sides) == 1 and before.sides != after.sides
    if entry.region not in _PAIRED or not is_one_sided or _UNPAIRED_WORDS.search(entry.text):
        return []
    return [] if truth.is_said_at(entry, text) else [Abnormality(entry.region, text)]


def size_options(entry: Abnormality, truth: Truth) -> Options:
    """Return the entry with its size halved or doubled.

    Args:
        entry: The entry.
        truth: What is true of the patient.
    """
    options: Options = []
    for factor in _FACTORS:
        text = _SIZE.sub(functools.partial(_scaled, factor=factor), entry.text)
        sizes = [match.group() for match in _SIZE.finditer(text)]
        is_new = bool(sizes) and text != entry.text and not any(_has_size(truth, size) for size in sizes)
        if is_new and truth.labels_of(text) == truth.labels_of(entry.text):
            options.append(Abnormality(entry.region, text))
    return options


def omission_options(entry: Abnormality, truth: Truth) -> Options:
    """Return that the entry can be left out, unless others state all that it does.

    Args:
        entry: The entry.
        truth: What is true of the patient.
    """
    labels = truth.labels_of(entry.text)
    return [] if labels and labels <= truth.labels_besides(entry) else [None]


def random_options(truth: Truth) -> list[Abnormality]:
    """Return sentences about anything that the patient has not, wherever it would be.

    Args:
        truth: What is true of the patient.
    """
    bank = [(label, text) for label, texts in POSITIVE_TEMPLATES.items() if label not in truth.labels for text in texts]
    read = truth.labels_of_each([text for _, text in bank])
    placed = [(text, find_region(text)) for (label, text), found in zip(bank, read, strict=True) if found == {label}]
    return [Abnormality(region, text) for text, region in placed if region is not None]


REPLACING: dict[str, Callable[[Abnormality, Truth], Options]] = {
    "confusion": confusion_options,
    "side": side_options,
    "size": size_options,
    "omission": omission_options,
    "random": lambda _, truth: [*random_options(truth)],
}
"""Strategies that change what is there."""


def insertion_place(entries: Sequence[Abnormality], region: str, order: Sequence[str]) -> int:
    """Return where an entry of a region belongs: after those of regions up to its own.

    Args:
        entries: The list.
        region: Region of the new entry.
        order: The regions in order.

    Example:
        >>> from ct_vlm.datasets.steering.strategies import insertion_place
        >>> from ct_vlm.text import Abnormality
        >>> insertion_place([Abnormality("lung", "A."), Abnormality("bone", "B.")], "heart", ["lung", "heart", "bone"])
        1
    """
    rank = order.index(region)
    return sum(order.index(entry.region) <= rank for entry in entries)


def _scaled(match: re.Match[str], factor: float) -> str:
    """Return a size times a factor; the size as it is if the result is not plausible."""
    in_mm = 10.0 if match.string[match.end() :].lstrip().lower().startswith("cm") else 1.0
    numbers = [float(number.replace(",", ".")) for number in _NUMBER.findall(match.group())]
    if any(not _SMALLEST_MM <= number * factor * in_mm <= _LARGEST_MM for number in numbers):
        return match.group()
    return _NUMBER.sub(lambda number: _times(number.group(), factor), match.group())


def _times(number: str, factor: float) -> str:
    """Return a written number times a factor, with the decimals that it needs and its own mark."""
    value = float(number.replace(",", ".")) * factor
    is_whole = "." not in number and "," not in number
    written = f"{max(1, round(value))}" if is_whole else f"{value:.1f}"
    return written.replace(".", ",") if "," in number else written


def _has_size(truth: Truth, size: str) -> bool:
    """Tell whether list or report hold a size in millimetres or centimetres."""
    return any(truth.has_words(f"{size}{unit}") for unit in (" mm", "mm", " cm", "cm"))
