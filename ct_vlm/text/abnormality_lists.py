r"""Lists of abnormalities by region, written as ``(Region: abnormality)``, and back.

One entry is one line. A line break inside an abnormality is followed by one space, as in folded
e-mail headers, and the line's last bracket closes the entry, so what was written is read back
whatever it holds.

References:
    AbSteering, arXiv 2603.12469: the ten regions, their names and the ``(region: abnormality)``
    template. Inferred: one line an entry, several entries a region, ``(None)`` for a normal scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable

STEERING_REGIONS: dict[str, str] = {
    "lung": "Lung",
    "trachea and bronchie": "Trachea and Bronchi",
    "mediastinum": "Mediastinum",
    "heart": "Heart",
    "esophagus": "Esophagus",
    "pleura": "Pleura",
    "bone": "Bone",
    "thyroid": "Thyroid",
    "breast": "Breast",
    "abdomen": "Abdomen",
}
"""RadGenome-ChestCT's name of each region to the one in a list, in the paper's order."""

NONE_ENTRY = "(None)"
"""The list of a scan without abnormalities."""

_BY_NAME = {name.lower(): region for region, name in STEERING_REGIONS.items()}


class Abnormality(NamedTuple):
    """One entry of a list.

    Args:
        region: One of ``STEERING_REGIONS``' keys.
        text: What is abnormal, usually one sentence.
    """

    region: str
    text: str


def render_abnormalities(entries: Iterable[tuple[str, str]]) -> str:
    r"""Write a list, a line ``(Region: abnormality)`` an entry.

    Args:
        entries: Region and text of each, in the order of the list.

    Returns:
        The lines; :data:`NONE_ENTRY` if there are none.

    Raises:
        ConfigError: If a region is none of :data:`STEERING_REGIONS`.

    Example:
        >>> from ct_vlm.text import render_abnormalities
        >>> render_abnormalities([("lung", "A 4 mm nodule."), ("trachea and bronchie", "Mucus (thick).")])
        '(Lung: A 4 mm nodule.)\n(Trachea and Bronchi: Mucus (thick).)'
        >>> render_abnormalities([])
        '(None)'
    """
    return "\n".join(_render(region, text) for region, text in entries) or NONE_ENTRY


def parse_abnormalities(text: str) -> tuple[Abnormality, ...]:
    r"""Read exactly what :func:`render_abnormalities` wrote.

    Args:
        text: The list.

    Returns:
        The entries that were written, whatever their texts hold.

    Raises:
        DatasetError: If the text has not that form; :func:`ct_vlm.text.read_abnormalities` takes any
            text and reports what it could not read.

    Example:
        >>> from ct_vlm.text import parse_abnormalities
        >>> parse_abnormalities("(Lung: A 4 mm nodule.)\n(Pleura: Effusion)")
        (Abnormality(region='lung', text='A 4 mm nodule.'), Abnormality(region='pleura', text='Effusion'))
    """
    if text == NONE_ENTRY:
        return ()
    blocks: list[str] = []
    for line in text.split("\n"):
        if line.startswith(" ") and blocks:
            blocks[-1] += f"\n{line[1:]}"
        else:
            blocks.append(line)
    return tuple(map(_parse, blocks))


def steering_region(name: str) -> str | None:
    """Return which region a heading of a list names, or None.

    Args:
        name: The paper's or RadGenome-ChestCT's name of a region, in any case.

    Example:
        >>> from ct_vlm.text.abnormality_lists import steering_region
        >>> steering_region("Trachea and Bronchi"), steering_region("brain")
        ('trachea and bronchie', None)
    """
    folded = " ".join(name.lower().split())
    return folded if folded in STEERING_REGIONS else _BY_NAME.get(folded)


def _render(region: str, text: str) -> str:
    """Write one entry."""
    if region not in STEERING_REGIONS:
        cause = f"No list of abnormalities has the region {region!r}."
        raise ConfigError(cause, f"Choose from: {', '.join(STEERING_REGIONS)}.")
    return f"({STEERING_REGIONS[region]}: " + text.replace("\n", "\n ") + ")"


def _parse(block: str) -> Abnormality:
    """Read one entry, its lines joined."""
    head, mark, text = block.partition(": ")
    region = _BY_NAME.get(head[1:].lower())
    if not mark or region is None or head != f"({STEERING_REGIONS[region]}" or not text.endswith(")"):
        cause = f"`{block[:60]}` is no entry of a list of abnormalities."
        raise DatasetError(cause, "Each line should be `(Region: abnormality)`; read a model's text leniently.")
    return Abnormality(region, text[:-1])
