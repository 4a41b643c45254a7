"""Connectors, visual projectors and heads."""

from __future__ import annotations

from ct_vlm.modules.attribute_text import AttributeText
from ct_vlm.modules.base import Connector
from ct_vlm.modules.label_tokens import LabelTokens
from ct_vlm.modules.mask_driven_extractor import MaskDrivenVisualExtractor, SegmentationTokens
from ct_vlm.modules.position import GridPositionEmbedding
from ct_vlm.modules.presence import PresenceHead
from ct_vlm.modules.query_head import QueryClassificationHead
from ct_vlm.modules.r2_token_pooling import R2_PRESETS, R2TokenPooling, RegionTokens
from ct_vlm.modules.unet_decoder import UNetDecoder
from ct_vlm.modules.visual_injection import MultiLayerVisualInjection
from ct_vlm.modules.visual_tokens import VisualTokenProjector

__all__ = [
    "R2_PRESETS",
    "AttributeText",
    "Connector",
    "GridPositionEmbedding",
    "LabelTokens",
    "MaskDrivenVisualExtractor",
    "MultiLayerVisualInjection",
    "PresenceHead",
    "QueryClassificationHead",
    "R2TokenPooling",
    "RegionTokens",
    "SegmentationTokens",
    "UNetDecoder",
    "VisualTokenProjector",
]
