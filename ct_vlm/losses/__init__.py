"""Training losses."""

from __future__ import annotations

from ct_vlm.losses.presence import balanced_presence_loss, cell_presence
from ct_vlm.losses.segmentation import DeepSupervisionDiceCELoss, pool_labels

__all__ = ["DeepSupervisionDiceCELoss", "balanced_presence_loss", "cell_presence", "pool_labels"]
