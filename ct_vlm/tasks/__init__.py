"""LightningModules that train the models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.tasks.aligned_report import AlignedReportLightningModule
    from ct_vlm.tasks.base import TrainingTask, load_task
    from ct_vlm.tasks.classification import ClassificationLightningModule
    from ct_vlm.tasks.dpo import DPOLightningModule
    from ct_vlm.tasks.lejepa import LEJEPA_OPTIMIZER, LeJEPALightningModule
    from ct_vlm.tasks.optimizer import PAPER_OPTIMIZERS, OptimizerConfig
    from ct_vlm.tasks.report import ReportLightningModule
    from ct_vlm.tasks.segmentation import SegmentationLightningModule
    from ct_vlm.tasks.visual_alignment import VisualAlignmentLightningModule

_MODULES = {
    "PAPER_OPTIMIZERS": "optimizer",
    "AlignedReportLightningModule": "aligned_report",
    "ClassificationLightningModule": "classification",
    "DPOLightningModule": "dpo",
    "LEJEPA_OPTIMIZER": "lejepa",
    "LeJEPALightningModule": "lejepa",
    "OptimizerConfig": "optimizer",
    "ReportLightningModule": "report",
    "SegmentationLightningModule": "segmentation",
    "TrainingTask": "base",
    "VisualAlignmentLightningModule": "visual_alignment",
    "load_task": "base",
}

__all__ = [
    "LEJEPA_OPTIMIZER",
    "PAPER_OPTIMIZERS",
    "AlignedReportLightningModule",
    "ClassificationLightningModule",
    "DPOLightningModule",
    "LeJEPALightningModule",
    "OptimizerConfig",
    "ReportLightningModule",
    "SegmentationLightningModule",
    "TrainingTask",
    "VisualAlignmentLightningModule",
    "load_task",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
