"""Connectors, visual projectors and heads."""

from __future__ import annotations

from ct_vlm.modules.attribute_text import AttributeText
from ct_vlm.modules.base import Connector
from ct_vlm.modules.cross_attention_adapters import CrossAttentionAdapters
from ct_vlm.modules.gated_cross_attention import GatedCrossAttention
from ct_vlm.modules.label_tokens import LabelTokens
from ct_vlm.modules.mask_driven_extractor import MaskDrivenVisualExtractor, SegmentationTokens
from ct_vlm.modules.norm_calibrator import NormCalibrator
from ct_vlm.modules.patch_decoder import PatchSegmentationDecoder
from ct_vlm.modules.pca_whitening import PCAWhitening, WhiteningReport
from ct_vlm.modules.position import GridPositionEmbedding
from ct_vlm.modules.presence import PresenceHead
from ct_vlm.modules.query_head import QueryClassificationHead
from ct_vlm.modules.r2_token_pooling import R2_PRESETS, R2TokenPooling, RegionTokens
from ct_vlm.modules.separability import Separability, separability
from ct_vlm.modules.slice_presence import SlicePresenceHead
from ct_vlm.modules.ssl_projector import SSLProjector
from ct_vlm.modules.streaming_covariance import StreamingCovariance
from ct_vlm.modules.unet_decoder import UNetDecoder
from ct_vlm.modules.video_tokens import VideoTokens
from ct_vlm.modules.visual_injection import MultiLayerVisualInjection
from ct_vlm.modules.visual_predictor import JEPAHead, VisualPredictor
from ct_vlm.modules.visual_tokens import VisualTokenProjector
from ct_vlm.modules.zone_assignment import ZoneRows
from ct_vlm.modules.zone_cross_attention import ZoneConstrainedCrossAttention
from ct_vlm.modules.zoned_visual_tokens import ZonedVisualTokens

__all__ = [
    "R2_PRESETS",
    "AttributeText",
    "Connector",
    "CrossAttentionAdapters",
    "GatedCrossAttention",
    "GridPositionEmbedding",
    "JEPAHead",
    "LabelTokens",
    "MaskDrivenVisualExtractor",
    "MultiLayerVisualInjection",
    "NormCalibrator",
    "PCAWhitening",
    "PatchSegmentationDecoder",
    "PresenceHead",
    "QueryClassificationHead",
    "R2TokenPooling",
    "RegionTokens",
    "SSLProjector",
    "SegmentationTokens",
    "Separability",
    "SlicePresenceHead",
    "StreamingCovariance",
    "UNetDecoder",
    "VideoTokens",
    "VisualPredictor",
    "VisualTokenProjector",
    "WhiteningReport",
    "ZoneConstrainedCrossAttention",
    "ZoneRows",
    "ZonedVisualTokens",
    "separability",
]
