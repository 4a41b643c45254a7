"""Report and label metrics as torchmetrics classes with functional twins."""

from __future__ import annotations

from ct_vlm.metrics.labeler import Mention, RuleLabeler

__all__ = ["Mention", "RuleLabeler"]
