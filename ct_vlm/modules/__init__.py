"""Connectors, visual projectors and heads."""

from __future__ import annotations

from ct_vlm.modules.base import Connector
from ct_vlm.modules.label_tokens import LabelTokens
from ct_vlm.modules.position import GridPositionEmbedding
from ct_vlm.modules.presence import PresenceHead
from ct_vlm.modules.query_head import QueryClassificationHead
from ct_vlm.modules.unet_decoder import UNetDecoder
from ct_vlm.modules.visual_injection import MultiLayerVisualInjection
from ct_vlm.modules.visual_tokens import VisualTokenProjector

__all__ = [
    "Connector",
    "GridPositionEmbedding",
    "LabelTokens",
    "MultiLayerVisualInjection",
    "PresenceHead",
    "QueryClassificationHead",
    "UNetDecoder",
    "VisualTokenProjector",
]
