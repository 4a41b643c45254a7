"""Which regions a data set shows, and which published regions or anatomies each is made of."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError
from ct_vlm.text.regions import MEDREGION_REGIONS, RADGENOME_REGIONS, RADGENOME_TO_MEDREGION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEXT_ONLY = ("others",)
"""Heads of the region reports that have text and no mask."""

_LEVELS = ("region", "anatomy")


@dataclass(frozen=True)
class RegionScheme:
    """Regions of a data set in their order.

    Args:
        names: Their names.
        members: For each, the published regions or anatomies it is the union of.
        level: ``region`` or ``anatomy``: which masks the members are.
    """

    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    level: str = "region"

    def masked(self, index: int) -> tuple[str, ...]:
        """Return the members of a region that may have a mask."""
        return tuple(member for member in self.members[index] if member not in TEXT_ONLY)

    @property
    def all_members(self) -> tuple[str, ...]:
        """Every member once."""
        return tuple(dict.fromkeys(member for members in self.members for member in members))


def region_scheme(regions: str | Mapping[str, str | Sequence[str]] = "ten", mask_level: str = "region") -> RegionScheme:
    """Return the regions that an argument names.

    Args:
        regions: ``ten`` (RadGenome-ChestCT's), ``six`` (MedRegion-CT's; which of the ten each holds is
            inferred, and the breast is in none), or a mapping of any name to the region or regions,
            or the anatomies, it is made of. ``others`` has text and no mask.
        mask_level: ``region`` for the ten region masks, ``anatomy`` for those of single anatomies.

    Raises:
        ConfigError: If a name is unknown or the mapping is empty.

    Example:
        >>> from ct_vlm.text import region_scheme
        >>> scheme = region_scheme({"chest wall": ["bone", "breast"], "heart": "heart"})
        >>> scheme.names, scheme.members
        (('chest wall', 'heart'), (('bone', 'breast'), ('heart',)))
        >>> region_scheme("six").members[0]
        ('lung', 'pleura')
    """
    if mask_level not in _LEVELS:
        cause = f"Expected `mask_level` to be 'region' or 'anatomy', but got {mask_level!r}."
        raise ConfigError(cause, "Choose one of them.")
    if isinstance(regions, str):
        return _named(regions, mask_level)
    pairs = {str(name): (value,) if isinstance(value, str) else tuple(value) for name, value in regions.items()}
    empty = [name for name, members in pairs.items() if not members]
    if not pairs or empty:
        cause = f"`regions` names no masks{f' for {empty[0]!r}' if empty else ''}."
        raise ConfigError(cause, 'Pass e.g. {"lungs": ["lung", "pleura"]}.')
    scheme = RegionScheme(tuple(pairs), tuple(tuple(dict.fromkeys(members)) for members in pairs.values()), mask_level)
    if mask_level == "region":
        _check_members(scheme)
    return scheme


def _named(regions: str, mask_level: str) -> RegionScheme:
    """Return a scheme by name."""
    if regions not in {"ten", "six"}:
        cause = f"Expected `regions` to be 'ten', 'six' or a mapping, but got {regions!r}."
        raise ConfigError(cause, "Pass a mapping of names to regions for any other choice.")
    if mask_level == "anatomy":
        cause = f"`regions={regions!r}` names regions, but `mask_level='anatomy'` reads masks of anatomies."
        raise ConfigError(cause, 'Pass a mapping such as {"lungs": ["left lung", "right lung"]}.')
    if regions == "ten":
        return RegionScheme(RADGENOME_REGIONS, tuple((name,) for name in RADGENOME_REGIONS))
    members = tuple(
        tuple(part for part, whole in RADGENOME_TO_MEDREGION.items() if whole == name) for name in MEDREGION_REGIONS
    )
    return RegionScheme(MEDREGION_REGIONS, members)


def _check_members(scheme: RegionScheme) -> None:
    """Raise unless every member is one of the ten regions or has text only."""
    known = (*RADGENOME_REGIONS, *TEXT_ONLY)
    for member in scheme.all_members:
        if member not in known:
            near = difflib.get_close_matches(member, known, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            cause = f"{member!r} is no region of RadGenome-ChestCT."
            raise ConfigError(cause, f"{hint}Use {', '.join(known)}, or `mask_level='anatomy'`.")
