"""Pure functions and fused kernels, one folder an op.

Every op has a naive reference, a plain-torch path and, where it pays, a Triton kernel behind one
function with ``backend="auto"`` (:mod:`ct_vlm.ops.dispatch`). An op is imported from its folder::

    from ct_vlm.ops.zone_attention import zone_attention

The folders are attributes of this package and are imported on first use; nothing here needs
Triton or a GPU to be imported.

Example:
    >>> import ct_vlm.ops
    >>> "zone_attention" in ct_vlm.ops.list_ops()
    True
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

__all__ = ["list_ops"]


def list_ops() -> list[str]:
    """Return the names of the ops: the folders of this package whose name is not private."""
    found = pkgutil.iter_modules(__path__)
    return sorted(module.name for module in found if module.ispkg and not module.name.startswith("_"))


def __getattr__(name: str) -> Any:
    """Import an op's folder on first use."""
    if name.startswith("_") or name not in list_ops():
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """List the ops beside the names defined here."""
    return sorted({*globals(), *list_ops()})
