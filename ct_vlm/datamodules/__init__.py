"""LightningDataModules over the data sets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.datamodules.balancing import BalancedSampler, class_balanced_weights
    from ct_vlm.datamodules.base import VolumeDataModule
    from ct_vlm.datamodules.cached_data import CachedFeatureDataModule
    from ct_vlm.datamodules.cached_features import CachedFeatureDataset, PrecomputeResult, precompute
    from ct_vlm.datamodules.collating import collate
    from ct_vlm.datamodules.ct_rate import CTRateDataModule
    from ct_vlm.datamodules.features import FeatureDataModule, FeatureDataset, encode_features
    from ct_vlm.datamodules.loader import ResumableDataLoader, make_loader
    from ct_vlm.datamodules.patients import split_patients
    from ct_vlm.datamodules.preferences import PreferenceDataModule, PreferenceDataset
    from ct_vlm.datamodules.radgenome import RadGenomeDataModule
    from ct_vlm.datamodules.segmentation import SegmentationDataModule
    from ct_vlm.datamodules.sharding import EpochBatchSampler, EpochSampler
    from ct_vlm.datamodules.shards import ShardDataModule
    from ct_vlm.datamodules.slabs import SlabDataModule
    from ct_vlm.datamodules.slice_embeddings import SliceEmbeddingDataModule, SliceEmbeddingDataset, sample_slices
    from ct_vlm.datamodules.steered_targets import SteeredTargetDataModule
    from ct_vlm.datamodules.text_targets import TextTargetDataModule

_MODULES = {
    "BalancedSampler": "balancing",
    "CTRateDataModule": "ct_rate",
    "CachedFeatureDataModule": "cached_data",
    "CachedFeatureDataset": "cached_features",
    "EpochBatchSampler": "sharding",
    "EpochSampler": "sharding",
    "FeatureDataModule": "features",
    "FeatureDataset": "features",
    "PrecomputeResult": "cached_features",
    "PreferenceDataModule": "preferences",
    "PreferenceDataset": "preferences",
    "RadGenomeDataModule": "radgenome",
    "ResumableDataLoader": "loader",
    "SegmentationDataModule": "segmentation",
    "ShardDataModule": "shards",
    "SlabDataModule": "slabs",
    "SliceEmbeddingDataModule": "slice_embeddings",
    "SliceEmbeddingDataset": "slice_embeddings",
    "SteeredTargetDataModule": "steered_targets",
    "TextTargetDataModule": "text_targets",
    "VolumeDataModule": "base",
    "class_balanced_weights": "balancing",
    "collate": "collating",
    "encode_features": "features",
    "make_loader": "loader",
    "precompute": "cached_features",
    "sample_slices": "slice_embeddings",
    "split_patients": "patients",
}

__all__ = [
    "BalancedSampler",
    "CTRateDataModule",
    "CachedFeatureDataModule",
    "CachedFeatureDataset",
    "EpochBatchSampler",
    "EpochSampler",
    "FeatureDataModule",
    "FeatureDataset",
    "PrecomputeResult",
    "PreferenceDataModule",
    "PreferenceDataset",
    "RadGenomeDataModule",
    "ResumableDataLoader",
    "SegmentationDataModule",
    "ShardDataModule",
    "SlabDataModule",
    "SliceEmbeddingDataModule",
    "SliceEmbeddingDataset",
    "SteeredTargetDataModule",
    "TextTargetDataModule",
    "VolumeDataModule",
    "class_balanced_weights",
    "collate",
    "encode_features",
    "make_loader",
    "precompute",
    "sample_slices",
    "split_patients",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
