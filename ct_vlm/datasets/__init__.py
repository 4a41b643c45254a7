"""Torch data sets over published data layouts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.datasets.ct_rate import CTRateDataset
    from ct_vlm.datasets.epoch_index import EpochIndex
    from ct_vlm.datasets.index_report import IndexReport
    from ct_vlm.datasets.preferences import Change, PreferencePair, read_preferences, write_preferences
    from ct_vlm.datasets.preprocessing import PreprocessResult, preprocess
    from ct_vlm.datasets.radgenome import RadGenomeDataset, RadGenomeVQA
    from ct_vlm.datasets.segmentation import SegmentationDataset
    from ct_vlm.datasets.shards import ShardDataset
    from ct_vlm.datasets.shards_writing import ShardResult, write_shards
    from ct_vlm.datasets.slabs import SlabDataset

_MODULES = {
    "CTRateDataset": "ct_rate",
    "Change": "preferences",
    "EpochIndex": "epoch_index",
    "IndexReport": "index_report",
    "PreferencePair": "preferences",
    "PreprocessResult": "preprocessing",
    "RadGenomeDataset": "radgenome",
    "RadGenomeVQA": "radgenome",
    "SegmentationDataset": "segmentation",
    "ShardDataset": "shards",
    "ShardResult": "shards_writing",
    "SlabDataset": "slabs",
    "preprocess": "preprocessing",
    "read_preferences": "preferences",
    "write_preferences": "preferences",
    "write_shards": "shards_writing",
}

__all__ = [
    "CTRateDataset",
    "Change",
    "EpochIndex",
    "IndexReport",
    "PreferencePair",
    "PreprocessResult",
    "RadGenomeDataset",
    "RadGenomeVQA",
    "SegmentationDataset",
    "ShardDataset",
    "ShardResult",
    "SlabDataset",
    "preprocess",
    "read_preferences",
    "write_preferences",
    "write_shards",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
