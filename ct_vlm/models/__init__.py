"""The published systems as builder functions, and the models they build."""

from __future__ import annotations

from ct_vlm.models.absteering import AbSteeringConfig, absteering
from ct_vlm.models.classification import ClassificationModel
from ct_vlm.models.grounded_report import GroundedRegion, GroundedReport
from ct_vlm.models.grounding import generate_grounded
from ct_vlm.models.ker_vljepa import ker_vljepa, ker_vljepa_encoder, ker_vljepa_visual
from ct_vlm.models.medregion_ct import MedRegionConfig, medregion_ct, medregion_ct_encoder
from ct_vlm.models.registry import MODELS, build_model, list_models
from ct_vlm.models.segmentation import SegmentationModel
from ct_vlm.models.segmenters import CallableSegmenter, FileSegmenter, ModelSegmenter, Segmenter
from ct_vlm.models.text_embedder import TextEmbedder
from ct_vlm.models.text_whitening import fit_text_whitening, whitening_report
from ct_vlm.models.tiny_video_lm import write_tiny_video_lm
from ct_vlm.models.token_reader import TokenReader
from ct_vlm.models.transfer import TransferReport, transfer
from ct_vlm.models.u_vlm import u_vlm, u_vlm_classification, u_vlm_encoder, u_vlm_head, u_vlm_segmentation
from ct_vlm.models.visual_alignment import VisualAlignment, VisualAlignmentModel
from ct_vlm.models.vlm import VisionLanguageModel
from ct_vlm.models.warm_bridge import BRIDGE_GROUPS, BridgeReport, warm_bridge

__all__ = [
    "BRIDGE_GROUPS",
    "MODELS",
    "AbSteeringConfig",
    "BridgeReport",
    "CallableSegmenter",
    "ClassificationModel",
    "FileSegmenter",
    "GroundedRegion",
    "GroundedReport",
    "MedRegionConfig",
    "ModelSegmenter",
    "SegmentationModel",
    "Segmenter",
    "TextEmbedder",
    "TokenReader",
    "TransferReport",
    "VisionLanguageModel",
    "VisualAlignment",
    "VisualAlignmentModel",
    "absteering",
    "build_model",
    "fit_text_whitening",
    "generate_grounded",
    "ker_vljepa",
    "ker_vljepa_encoder",
    "ker_vljepa_visual",
    "list_models",
    "medregion_ct",
    "medregion_ct_encoder",
    "transfer",
    "u_vlm",
    "u_vlm_classification",
    "u_vlm_encoder",
    "u_vlm_head",
    "u_vlm_segmentation",
    "warm_bridge",
    "whitening_report",
    "write_tiny_video_lm",
]
