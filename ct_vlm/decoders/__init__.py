"""Language decoders that read visual context and write text."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.decoders.base import Decoder, DecoderOutput
    from ct_vlm.decoders.branches import BranchLogProbs
    from ct_vlm.decoders.causal_lm import CausalLMDecoder
    from ct_vlm.decoders.cross_attention import CrossAttention
    from ct_vlm.decoders.encoding import EncodedText
    from ct_vlm.decoders.lora import LORA_PRESETS, lora_settings
    from ct_vlm.decoders.report_config import ReportDecoderConfig
    from ct_vlm.decoders.report_decoder import ReportDecoderForCausalLM
    from ct_vlm.decoders.small import small_report_decoder
    from ct_vlm.decoders.tokenizer import tokenizer_from_config, tokenizer_to_config, train_bpe_tokenizer
    from ct_vlm.decoders.video_lm import VideoLMDecoder

_HOMES = {
    "BranchLogProbs": "branches",
    "CausalLMDecoder": "causal_lm",
    "CrossAttention": "cross_attention",
    "Decoder": "base",
    "DecoderOutput": "base",
    "EncodedText": "encoding",
    "LORA_PRESETS": "lora",
    "ReportDecoderConfig": "report_config",
    "ReportDecoderForCausalLM": "report_decoder",
    "VideoLMDecoder": "video_lm",
    "lora_settings": "lora",
    "small_report_decoder": "small",
    "tokenizer_from_config": "tokenizer",
    "tokenizer_to_config": "tokenizer",
    "train_bpe_tokenizer": "tokenizer",
}

__all__ = [
    "LORA_PRESETS",
    "BranchLogProbs",
    "CausalLMDecoder",
    "CrossAttention",
    "Decoder",
    "DecoderOutput",
    "EncodedText",
    "ReportDecoderConfig",
    "ReportDecoderForCausalLM",
    "VideoLMDecoder",
    "lora_settings",
    "small_report_decoder",
    "tokenizer_from_config",
    "tokenizer_to_config",
    "train_bpe_tokenizer",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: transformers takes seconds to import."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
