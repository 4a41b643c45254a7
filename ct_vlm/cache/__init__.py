"""Named arrays on disk: chunked, compressed, checksummed, written atomically."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.cache.collecting import CollectResult, collect
    from ct_vlm.cache.entry import CacheEntry, read_entry
    from ct_vlm.cache.errors import DamagedEntryError
    from ct_vlm.cache.feature_manifest import open_features, write_manifest
    from ct_vlm.cache.features import FeatureCache, model_identity
    from ct_vlm.cache.identity import source_identity
    from ct_vlm.cache.store import ArrayCache
    from ct_vlm.cache.summary import CacheSummary, summarise
    from ct_vlm.cache.verifying import VerifyResult, verify

_MODULES = {
    "ArrayCache": "store",
    "CacheEntry": "entry",
    "CacheSummary": "summary",
    "CollectResult": "collecting",
    "DamagedEntryError": "errors",
    "FeatureCache": "features",
    "VerifyResult": "verifying",
    "collect": "collecting",
    "model_identity": "features",
    "open_features": "feature_manifest",
    "read_entry": "entry",
    "source_identity": "identity",
    "summarise": "summary",
    "verify": "verifying",
    "write_manifest": "feature_manifest",
}

__all__ = [
    "ArrayCache",
    "CacheEntry",
    "CacheSummary",
    "CollectResult",
    "DamagedEntryError",
    "FeatureCache",
    "VerifyResult",
    "collect",
    "model_identity",
    "open_features",
    "read_entry",
    "source_identity",
    "summarise",
    "verify",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
