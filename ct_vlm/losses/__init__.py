"""Training losses."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.losses.anchor import AnchorPenalty, fisher_diagonal
    from ct_vlm.losses.dpo import DPOResult, dpo_loss
    from ct_vlm.losses.info_nce import InfoNCELoss, text_keys
    from ct_vlm.losses.jepa import cosine_prediction_loss
    from ct_vlm.losses.labels import focal_loss, masked_bce, multiple_instance_loss, positive_weights
    from ct_vlm.losses.lejepa import LeJEPALoss, LeJEPALosses
    from ct_vlm.losses.mmd import imq_mmd, imq_scale
    from ct_vlm.losses.orthogonality import orthogonality_loss
    from ct_vlm.losses.presence import balanced_presence_loss, cell_presence
    from ct_vlm.losses.segmentation import DeepSupervisionDiceCELoss, pool_labels
    from ct_vlm.losses.sigreg import SIGReg

_MODULES = {
    "AnchorPenalty": "anchor",
    "DPOResult": "dpo",
    "DeepSupervisionDiceCELoss": "segmentation",
    "InfoNCELoss": "info_nce",
    "LeJEPALoss": "lejepa",
    "LeJEPALosses": "lejepa",
    "SIGReg": "sigreg",
    "balanced_presence_loss": "presence",
    "cell_presence": "presence",
    "cosine_prediction_loss": "jepa",
    "dpo_loss": "dpo",
    "fisher_diagonal": "anchor",
    "focal_loss": "labels",
    "imq_mmd": "mmd",
    "imq_scale": "mmd",
    "masked_bce": "labels",
    "multiple_instance_loss": "labels",
    "orthogonality_loss": "orthogonality",
    "pool_labels": "segmentation",
    "positive_weights": "labels",
    "text_keys": "info_nce",
}

__all__ = [
    "AnchorPenalty",
    "DPOResult",
    "DeepSupervisionDiceCELoss",
    "InfoNCELoss",
    "LeJEPALoss",
    "LeJEPALosses",
    "SIGReg",
    "balanced_presence_loss",
    "cell_presence",
    "cosine_prediction_loss",
    "dpo_loss",
    "fisher_diagonal",
    "focal_loss",
    "imq_mmd",
    "imq_scale",
    "masked_bce",
    "multiple_instance_loss",
    "orthogonality_loss",
    "pool_labels",
    "positive_weights",
    "text_keys",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
