"""Patient attributes: sizes and places of organs and lesions, measured on masks of the original scan."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.attributes.masks import MaskSet
    from ct_vlm.attributes.measure import AttributeConfig, measure_attributes
    from ct_vlm.attributes.organs import organ_masks, organ_volumes
    from ct_vlm.attributes.provenance import MaskKind, MaskProvenance
    from ct_vlm.attributes.reading import find_masks, read_masks
    from ct_vlm.attributes.result import Effusion, Lesion, LesionGroup, Organ, PatientAttributes
    from ct_vlm.attributes.text import carried_by_text, parse_attributes, render_attributes

_MODULES = {
    "AttributeConfig": "measure",
    "Effusion": "result",
    "Lesion": "result",
    "LesionGroup": "result",
    "MaskKind": "provenance",
    "MaskProvenance": "provenance",
    "MaskSet": "masks",
    "Organ": "result",
    "PatientAttributes": "result",
    "carried_by_text": "text",
    "find_masks": "reading",
    "measure_attributes": "measure",
    "organ_masks": "organs",
    "organ_volumes": "organs",
    "parse_attributes": "text",
    "read_masks": "reading",
    "render_attributes": "text",
}

__all__ = [
    "AttributeConfig",
    "Effusion",
    "Lesion",
    "LesionGroup",
    "MaskKind",
    "MaskProvenance",
    "MaskSet",
    "Organ",
    "PatientAttributes",
    "carried_by_text",
    "find_masks",
    "measure_attributes",
    "organ_masks",
    "organ_volumes",
    "parse_attributes",
    "read_masks",
    "render_attributes",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
