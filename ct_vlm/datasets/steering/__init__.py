"""Lists of abnormalities out of reports, wrong lists that are hard to tell from them, and published ones."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.datasets.steering.abnormal import AbnormalSentences
    from ct_vlm.datasets.steering.building import AbnormalityBuilder, BuiltList
    from ct_vlm.datasets.steering.negatives import HardNegatives, Negative
    from ct_vlm.datasets.steering.published import DEFAULT_FIELDS, PublishedFile, PublishedRow, read_steered_json
    from ct_vlm.datasets.steering.sources import SteeredScan, make_pairs, read_scans

_MODULES = {
    "DEFAULT_FIELDS": "published",
    "AbnormalSentences": "abnormal",
    "AbnormalityBuilder": "building",
    "BuiltList": "building",
    "HardNegatives": "negatives",
    "Negative": "negatives",
    "PublishedFile": "published",
    "PublishedRow": "published",
    "SteeredScan": "sources",
    "make_pairs": "sources",
    "read_scans": "sources",
    "read_steered_json": "published",
}

__all__ = [
    "DEFAULT_FIELDS",
    "AbnormalSentences",
    "AbnormalityBuilder",
    "BuiltList",
    "HardNegatives",
    "Negative",
    "PublishedFile",
    "PublishedRow",
    "SteeredScan",
    "make_pairs",
    "read_scans",
    "read_steered_json",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
