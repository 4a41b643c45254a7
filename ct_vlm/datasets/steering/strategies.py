"""Ways of making one entry of a list wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from ct_vlm.datasets.steering.sizes import scale_sizes, sizes_mm
from ct_vlm.datasets.steering.truth import is_mentioned, is_stated
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
_FACTORS = (0.5, 2.0)


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
        # a finding that is denied is not there to be mistaken, and one that the entry speaks of would be told twice
        if not is_stated(entry.text, old) or is_mentioned(entry.text, new) or truth.names(new):
            continue
        text = swap_finding(entry.text, old, new)
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
    """Return the entry with its sizes halved or doubled, where no word of it judges them.

    Args:
        entry: The entry.
        truth: What is true of the patient.
    """
    options: Options = []
    for factor in _FACTORS:
        text = scale_sizes(entry.text, factor)
        is_new = text != entry.text and not any(truth.has_size(size) for size in sizes_mm(text))
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
