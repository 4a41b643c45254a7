"""What is measured of a patient, as typed values that go through JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.attributes.provenance import MaskProvenance
from ct_vlm.errors import DatasetError
from ct_vlm.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

Side = Literal["right", "left"]
Level = Literal["upper", "middle", "lower"]

_VERSION = 1


@dataclass(frozen=True)
class Organ:
    """An organ, or its part on one side.

    Args:
        name: ``lung``, ``heart``, ``liver`` or ``kidney``.
        side: None for organs without sides, and for pairs whose mask could not be told apart.
        volume_ml: 0 where the mask is empty.
        is_partial: Whether the mask reaches the border of the volume, so that the organ may go on.
    """

    name: str
    side: Side | None
    volume_ml: float
    is_partial: bool = False


@dataclass(frozen=True)
class Lesion:
    """A nodule or cyst.

    Args:
        diameter_mm: Largest diameter within an axial slice (:mod:`ct_vlm.attributes.feret`).
        place: Lobe, lung or kidney it lies in; None without a mask of any.
        short_mm: Extent perpendicular to the diameter in that slice.
        sphere_mm: Diameter of the sphere of the same volume.
        volume_ml: Volume.
        level: Third of the lungs' (or kidney's) height that holds its centre.
        slice_index: Slice of the diameter, from 0, as the stored file counts.
        place_source: ``overlap`` if most of it lies in the place's mask, ``nearest`` if it was cut
            out of it, ``mask`` if its own mask names the side.
        is_partial: Whether it reaches the border of the volume.
    """

    diameter_mm: float
    place: str | None = None
    short_mm: float | None = None
    sphere_mm: float | None = None
    volume_ml: float | None = None
    level: Level | None = None
    slice_index: int | None = None
    place_source: Literal["overlap", "nearest", "mask"] | None = None
    is_partial: bool = False


@dataclass(frozen=True)
class LesionGroup:
    """All lesions of a kind.

    Args:
        count: How many there are.
        lesions: The largest of them, from large to small.
    """

    count: int
    lesions: tuple[Lesion, ...] = ()


@dataclass(frozen=True)
class Effusion:
    """Pleural fluid of one side.

    Args:
        side: None where the lungs' masks do not tell.
        volume_ml: Volume.
        thickness_mm: Longest unbroken run of fluid from front to back.
        is_partial: Whether it reaches the border of the volume.
    """

    side: Side | None
    volume_ml: float
    thickness_mm: float
    is_partial: bool = False


@dataclass(frozen=True)
class PatientAttributes:
    """Sizes and places of organs and lesions of one scan, on its original grid.

    What was not looked for (there was no such mask) is told apart from what is not there: an organ
    without a mask is absent from ``organs``, a lesion kind without one is None.

    Args:
        organs: Lungs, heart, liver, kidneys, as far as there are masks.
        nodules: Lung nodules.
        effusions: Pleural effusions, right before left; empty where there is none.
        cysts: Kidney cysts.
        provenance: Where the masks come from.
        volume_id: Name of the scan.

    Example:
        >>> from ct_vlm.attributes import Organ, PatientAttributes
        >>> attributes = PatientAttributes((Organ("heart", None, 640.2),))
        >>> PatientAttributes.from_dict(attributes.to_dict()) == attributes
        True
        >>> attributes.volume_ml("heart"), attributes.volume_ml("liver")
        (640.2, None)
    """

    organs: tuple[Organ, ...] = ()
    nodules: LesionGroup | None = None
    effusions: tuple[Effusion, ...] | None = None
    cysts: LesionGroup | None = None
    provenance: MaskProvenance | None = None
    volume_id: str = ""

    def organ(self, name: str, side: Side | None = None) -> Organ | None:
        """Return an organ of a side; None if it was not measured."""
        return next((organ for organ in self.organs if (organ.name, organ.side) == (name, side)), None)

    def volume_ml(self, name: str, side: Side | None = None) -> float | None:
        """Return an organ's volume, of both sides together if none is named; None if not measured."""
        found = [organ.volume_ml for organ in self.organs if organ.name == name and side in (None, organ.side)]
        return sum(found) if found else None

    def cysts_of(self, side: Side) -> int | None:
        """Return the number of listed cysts of one kidney; None if none were looked for."""
        if self.cysts is None:
            return None
        return sum(lesion.place == f"{side} kidney" for lesion in self.cysts.lesions)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"version": _VERSION, **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PatientAttributes:
        """Build from what :meth:`to_dict` returned.

        Raises:
            DatasetError: If a key is missing or unknown, or the version another one.
        """
        if values.get("version") != _VERSION:
            cause = f"Expected patient attributes of version {_VERSION}, but got {values.get('version')!r}."
            raise DatasetError(cause, "Measure them again with this version.")
        effusions, provenance = values.get("effusions"), values.get("provenance")
        try:
            return cls(
                organs=tuple(Organ(**organ) for organ in values["organs"]),
                nodules=_group(values.get("nodules")),
                effusions=None if effusions is None else tuple(Effusion(**effusion) for effusion in effusions),
                cysts=_group(values.get("cysts")),
                provenance=None if provenance is None else MaskProvenance.from_dict(provenance),
                volume_id=values.get("volume_id", ""),
            )
        except (KeyError, TypeError) as error:
            cause = f"These are no patient attributes: {error}."
            raise DatasetError(cause, "Pass the output of `PatientAttributes.to_dict`.") from error

    def save(self, path: str | Path) -> None:
        """Write a JSON file, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> PatientAttributes:
        """Read a JSON file that :meth:`save` wrote.

        Raises:
            DatasetError: If it cannot be read.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            cause = f"`{path}` cannot be read: {error}."
            raise DatasetError(cause, "Pass a file that `PatientAttributes.save` wrote.") from error
        if not isinstance(values, dict):
            cause = f"`{path}` holds no patient attributes."
            raise DatasetError(cause, "Pass a file that `PatientAttributes.save` wrote.")
        return cls.from_dict(values)


def _group(values: Mapping[str, Any] | None) -> LesionGroup | None:
    """Build the lesions of a kind."""
    if values is None:
        return None
    return LesionGroup(values["count"], tuple(Lesion(**lesion) for lesion in values["lesions"]))
