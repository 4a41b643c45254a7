"""Encoders that turn a volume into multi-level features."""

from __future__ import annotations

from ct_vlm.encoders.absent import AbsentEncoder
from ct_vlm.encoders.base import Encoder
from ct_vlm.encoders.lejepa_vit import lejepa_vit
from ct_vlm.encoders.residual_unet import ResidualUNetEncoder
from ct_vlm.encoders.slice_embedder import SliceEmbedder
from ct_vlm.encoders.slice_encoder import SliceEncoder
from ct_vlm.encoders.video_inputs import InternVLVideoInputs, QwenVideoInputs, VideoInputs
from ct_vlm.encoders.video_lm import VideoLMEncoder
from ct_vlm.encoders.video_settings import read_video_inputs

__all__ = [
    "AbsentEncoder",
    "Encoder",
    "InternVLVideoInputs",
    "QwenVideoInputs",
    "ResidualUNetEncoder",
    "SliceEmbedder",
    "SliceEncoder",
    "VideoInputs",
    "VideoLMEncoder",
    "lejepa_vit",
    "read_video_inputs",
]
