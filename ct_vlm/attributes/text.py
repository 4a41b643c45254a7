"""Patient attributes as text of a fixed order for a prompt, and back."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ct_vlm.attributes.result import Effusion, Lesion, LesionGroup, Organ, PatientAttributes
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct_vlm.attributes.result import Side

HEADER = "[Patient attributes]"
_ABSENT, _UNKNOWN, _UNSEEN, _PARTIAL = "none", "not assessed", "not seen", " (partially imaged)"
_CYSTS, _EFFUSION, _NODULES = "Kidney cysts", "Pleural effusion", "Lung nodules"
# organ, side, title; a pair that could not be told apart has a title of its own
_ORGANS: tuple[tuple[str, Side | None, str], ...] = (
    ("lung", "right", "Right lung"),
    ("lung", "left", "Left lung"),
    ("lung", None, "Lungs"),
    ("heart", None, "Heart"),
    ("liver", None, "Liver"),
    ("kidney", "right", "Right kidney"),
    ("kidney", "left", "Left kidney"),
    ("kidney", None, "Kidneys"),
)
_SIDE_NAMES: dict[str, Side | None] = {"right": "right", "left": "left", "side unknown": None}
_TITLES = "|".join([*(title for _, _, title in _ORGANS), _NODULES, _EFFUSION, _CYSTS])
_ITEM = re.compile(rf"(?:^| )({_TITLES}): (.*?)\.(?= (?:{_TITLES}): |$)")
_ORGAN_VALUE = re.compile(r"(\d+) mL( \(partially imaged\))?")
_GROUP_VALUE = re.compile(r"(\d+) \((.+)\)")
_LESION_VALUE = re.compile(r"\d+: (\d+\.\d) mm(?:, ([a-z ]+?))?( \(partially imaged\))?")
_REST_VALUE = re.compile(r"\d+ more")
_EFFUSION_VALUE = re.compile(r"(right|left|side unknown) (\d+) mL, (\d+\.\d) mm thick( \(partially imaged\))?")


def render_attributes(attributes: PatientAttributes, *, max_listed: int = 10) -> str:
    """Return the text of patient attributes.

    Every item stands in every text, in the same order: what was looked for and is not there reads
    "none" ("not seen" for an organ, of which less than half a millilitre counts as none), what was not
    looked for "not assessed". Millilitres are whole, millimetres have one decimal.

    Args:
        attributes: What was measured.
        max_listed: Lesions of a kind that are named one by one; the rest is counted.

    Example:
        >>> from ct_vlm.attributes import Lesion, LesionGroup, Organ, PatientAttributes, render_attributes
        >>> nodules = LesionGroup(1, (Lesion(6.42, "right upper lobe"),))
        >>> organs = (Organ("lung", "right", 2310.4), Organ("lung", "left", 2054.0, is_partial=True))
        >>> render_attributes(PatientAttributes(organs, nodules=nodules, effusions=()))
        '[Patient attributes] Right lung: 2310 mL. Left lung: 2054 mL (partially imaged). Heart: not assessed.
        Liver: not assessed. Right kidney: not assessed. Left kidney: not assessed.
        Lung nodules: 1 (1: 6.4 mm, right upper lobe). Pleural effusion: none. Kidney cysts: not assessed.'

    References:
        MedRegion-CT, arXiv 2506.23102: attributes become a text prompt. Its wording is not
        published in a readable form: this template is inferred.
    """
    items = list(_organ_items(attributes))
    items.append((_NODULES, _group_text(attributes.nodules, max_listed)))
    items.append((_EFFUSION, _effusion_text(attributes.effusions)))
    items.append((_CYSTS, _group_text(attributes.cysts, max_listed)))
    return " ".join([HEADER, *(f"{title}: {value}." for title, value in items)])


def parse_attributes(text: str) -> PatientAttributes:
    """Read a text of :func:`render_attributes` back.

    Args:
        text: That text, alone.

    Returns:
        What the text carries: volumes, rounded diameters, places, counts, partial organs.

    Raises:
        DatasetError: If it is no such text.

    Example:
        >>> from ct_vlm.attributes import Organ, PatientAttributes, parse_attributes, render_attributes
        >>> attributes = PatientAttributes((Organ("heart", None, 640.0),), effusions=())
        >>> parse_attributes(render_attributes(attributes)) == attributes
        True
    """
    body = text.strip().removeprefix(HEADER).strip()
    found = {match.group(1): match.group(2) for match in _ITEM.finditer(body)}
    if not text.strip().startswith(HEADER) or " ".join(f"{title}: {value}." for title, value in found.items()) != body:
        raise _no_attributes(text)
    organs = []
    for name, side, title in _ORGANS:
        value = found.get(title, _UNKNOWN)
        if value == _UNSEEN:
            organs.append(Organ(name, side, 0.0))
        elif value != _UNKNOWN:
            match = _match(_ORGAN_VALUE, value)
            organs.append(Organ(name, side, float(match[1]), match[2] is not None))
    try:
        return PatientAttributes(
            organs=tuple(organs),
            nodules=_parse_group(found[_NODULES]),
            effusions=_parse_effusion(found[_EFFUSION]),
            cysts=_parse_group(found[_CYSTS]),
        )
    except KeyError as error:
        raise _no_attributes(text) from error


def carried_by_text(attributes: PatientAttributes, *, max_listed: int = 10) -> PatientAttributes:
    """Return attributes less what their text does not carry: what parsing the text gives back.

    Args:
        attributes: What was measured.
        max_listed: As in :func:`render_attributes`.
    """

    def whole(value: float) -> float:
        return float(f"{value:.0f}")

    def tenths(value: float) -> float:
        return float(f"{value:.1f}")

    def group(lesions: LesionGroup | None) -> LesionGroup | None:
        if lesions is None:
            return None
        named = [Lesion(tenths(x.diameter_mm), x.place, is_partial=x.is_partial) for x in lesions.lesions[:max_listed]]
        return LesionGroup(lesions.count, tuple(named))

    known = {(organ.name, organ.side): organ for organ in attributes.organs}
    # an organ that is not seen has no border
    organs = (
        replace(o, volume_ml=whole(o.volume_ml), is_partial=o.is_partial and whole(o.volume_ml) > 0)
        for name, side, _ in _ORGANS
        if (o := known.get((name, side))) is not None
    )
    fluid = attributes.effusions
    return PatientAttributes(
        organs=tuple(organs),
        nodules=group(attributes.nodules),
        effusions=None
        if fluid is None
        else tuple(replace(x, volume_ml=whole(x.volume_ml), thickness_mm=tenths(x.thickness_mm)) for x in fluid),
        cysts=group(attributes.cysts),
    )


def _organ_items(attributes: PatientAttributes) -> Iterator[tuple[str, str]]:
    """Yield title and value of each organ."""
    for name, side, title in _ORGANS:
        unsplit = attributes.organ(name) is not None and name in ("lung", "kidney")
        is_pair_title = title in ("Lungs", "Kidneys")
        if (side is not None and unsplit) or (is_pair_title and not unsplit):
            continue
        organ = attributes.organ(name, side)
        if organ is None:
            yield title, _UNKNOWN
        elif round(organ.volume_ml) == 0:
            yield title, _UNSEEN
        else:
            yield title, f"{round(organ.volume_ml)} mL{_PARTIAL if organ.is_partial else ''}"


def _group_text(group: LesionGroup | None, max_listed: int) -> str:
    """Return count, sizes and places of the lesions of a kind."""
    if group is None:
        return _UNKNOWN
    if group.count == 0:
        return _ABSENT
    parts = [
        f"{number}: {lesion.diameter_mm:.1f} mm"
        f"{f', {lesion.place}' if lesion.place else ''}{_PARTIAL if lesion.is_partial else ''}"
        for number, lesion in enumerate(group.lesions[:max_listed], start=1)
    ]
    rest = group.count - len(parts)
    return f"{group.count} ({'; '.join([*parts, f'{rest} more'] if rest else parts)})"


def _effusion_text(effusions: tuple[Effusion, ...] | None) -> str:
    """Return volume and thickness of the effusion of each side."""
    if effusions is None:
        return _UNKNOWN
    parts = [
        f"{x.side or 'side unknown'} {x.volume_ml:.0f} mL, {x.thickness_mm:.1f} mm thick"
        f"{_PARTIAL if x.is_partial else ''}"
        for x in effusions
    ]
    return "; ".join(parts) or _ABSENT


def _parse_group(value: str) -> LesionGroup | None:
    """Read what :func:`_group_text` wrote."""
    if value in (_UNKNOWN, _ABSENT):
        return None if value == _UNKNOWN else LesionGroup(0)
    match = _match(_GROUP_VALUE, value)
    parts = [part for part in match[2].split("; ") if not _REST_VALUE.fullmatch(part)]
    lesions = [_match(_LESION_VALUE, part) for part in parts]
    return LesionGroup(int(match[1]), tuple(Lesion(float(x[1]), x[2], is_partial=x[3] is not None) for x in lesions))


def _parse_effusion(value: str) -> tuple[Effusion, ...] | None:
    """Read what :func:`_effusion_text` wrote."""
    if value in (_UNKNOWN, _ABSENT):
        return None if value == _UNKNOWN else ()
    found = [_match(_EFFUSION_VALUE, part) for part in value.split("; ")]
    return tuple(Effusion(_SIDE_NAMES[x[1]], float(x[2]), float(x[3]), x[4] is not None) for x in found)


def _match(rule: re.Pattern[str], value: str) -> re.Match[str]:
    """Return the match of a whole value.

    Raises:
        DatasetError: If there is none.
    """
    match = rule.fullmatch(value)
    if match is None:
        raise _no_attributes(value)
    return match


def _no_attributes(text: str) -> DatasetError:
    """Return the error of a text that cannot be read."""
    cause = f"This is no text of patient attributes: {text[:200]!r}."
    return DatasetError(cause, "Pass what `render_attributes` returned, unchanged.")
