"""What is wrong with a download of CT-RATE or RadGenome-ChestCT, found without changing it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.datasets.audit.codes import CODES, Code
    from ct_vlm.datasets.audit.report import AuditReport, Count, Finding
    from ct_vlm.datasets.audit.run import audit

_MODULES = {
    "CODES": "codes",
    "AuditReport": "report",
    "Code": "codes",
    "Count": "report",
    "Finding": "report",
    "audit": "run",
}

__all__ = ["CODES", "AuditReport", "Code", "Count", "Finding", "audit"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
