"""Reusable components for 3D medical vision-language models that read chest CT.

The public names below are imported on first use, so ``import ct_vlm`` stays far under a second.

Example:
    >>> import ct_vlm
    >>> ct_vlm.CTVLMError.__name__
    'CTVLMError'
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "CTVLMError": "ct_vlm.errors",
    "Component": "ct_vlm.component",
    "Features": "ct_vlm.features",
    "VisualContext": "ct_vlm.features",
}
"""Public name to the module that defines it; nothing is imported before the name is used."""

__all__ = ["__version__", *sorted(_EXPORTS)]  # noqa: PLE0604  # the star part holds strings only


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _EXPORTS:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List public names for tab completion."""
    return sorted({*globals(), *__all__})
