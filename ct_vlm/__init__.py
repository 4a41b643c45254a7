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
    "CTPreset": "ct_vlm.transforms",
    "CTRateDataModule": "ct_vlm.datamodules",
    "CTRateDataset": "ct_vlm.datasets",
    "CTVLMError": "ct_vlm.errors",
    "CausalLMDecoder": "ct_vlm.decoders",
    "ClassificationLightningModule": "ct_vlm.tasks",
    "Component": "ct_vlm.component",
    "Connector": "ct_vlm.modules",
    "DPOLightningModule": "ct_vlm.tasks",
    "Decoder": "ct_vlm.decoders",
    "Encoder": "ct_vlm.encoders",
    "Features": "ct_vlm.features",
    "LeJEPALightningModule": "ct_vlm.tasks",
    "MaskDrivenVisualExtractor": "ct_vlm.modules",
    "MultiLayerVisualInjection": "ct_vlm.modules",
    "NormCalibrator": "ct_vlm.modules",
    "OptimizerConfig": "ct_vlm.tasks",
    "PCAWhitening": "ct_vlm.modules",
    "PreferenceDataModule": "ct_vlm.datamodules",
    "RadGenomeDataModule": "ct_vlm.datamodules",
    "RadGenomeDataset": "ct_vlm.datasets",
    "R2TokenPooling": "ct_vlm.modules",
    "RegionPrompts": "ct_vlm.text",
    "ReportLightningModule": "ct_vlm.tasks",
    "RuleLabeler": "ct_vlm.metrics",
    "SIGReg": "ct_vlm.losses",
    "SegmentationLightningModule": "ct_vlm.tasks",
    "SlabDataModule": "ct_vlm.datamodules",
    "SliceEmbedder": "ct_vlm.encoders",
    "SliceEmbeddingDataModule": "ct_vlm.datamodules",
    "SliceEncoder": "ct_vlm.encoders",
    "VisionLanguageModel": "ct_vlm.models",
    "VisualContext": "ct_vlm.features",
    "VisualPredictor": "ct_vlm.modules",
    "ZoneConstrainedCrossAttention": "ct_vlm.modules",
    "ZonedVisualTokens": "ct_vlm.modules",
    "get_preset": "ct_vlm.transforms",
    "lejepa_vit": "ct_vlm.encoders",
    "load_volume": "ct_vlm.transforms",
    "make_phantom": "ct_vlm.phantoms",
    "medregion_ct": "ct_vlm.models",
    "train_bpe_tokenizer": "ct_vlm.decoders",
    "transfer": "ct_vlm.models",
    "u_vlm": "ct_vlm.models",
    "write_ct_rate": "ct_vlm.phantoms",
    "write_radgenome": "ct_vlm.phantoms",
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
