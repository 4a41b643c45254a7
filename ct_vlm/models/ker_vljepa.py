"""Ker-VLJEPA-3B: a language-free slice encoder, zone attention, and a language model that reads it twice.

Paper: https://arxiv.org/abs/2603.23308. What is inferred rather than published is marked so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.encoders import SliceEmbedder, lejepa_vit
from ct_vlm.errors import ConfigError
from ct_vlm.models.visual_alignment import VisualAlignmentModel
from ct_vlm.models.vlm import VisionLanguageModel
from ct_vlm.modules import (
    CrossAttentionAdapters,
    JEPAHead,
    NormCalibrator,
    VisualPredictor,
    ZoneConstrainedCrossAttention,
    ZonedVisualTokens,
)
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from ct_vlm.transforms import CTPreset

Size = Literal["tiny", "paper"]
PLACEHOLDER = "<|visual_region|>"
GENERATION: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.9,
    "repetition_penalty": 1.15,
    "no_repeat_ngram_size": 5,
    "max_new_tokens": 384,
}
"""The paper's options of ``generate``; that it samples follows from its temperature."""


@dataclass(frozen=True)
class KerVLJEPAConfig:
    """Sizes of a Ker-VLJEPA.

    Args:
        slice_dim: Width of a slice embedding and of the zone tokens.
        num_zones: Zones, one token each.
        num_heads: Heads of the zone attention and its transformer layer.
        hidden_dim: Feed-forward width of that layer.
        max_slices: Slices of a volume that are kept.
        embed_dim: Width of the language model.
        text_norm: Mean length of its input embeddings, which the visual tokens are brought to; that of a given
            language model is measured.
        whitened_dim: Directions of the whitened text embeddings.
        jepa_dim: Hidden width of the head that predicts them.
        whitening_layer: Layer of the language model that texts are embedded by, counted from 1.
        read_layers: Decoder layers whose output reads the tokens, counted from 0.
        read_heads: Heads of their cross-attention.
        lora: LoRA settings, or the name of a preset.
        language_model: ``transformers`` config of the language model, for random weights.
    """

    slice_dim: int
    num_zones: int
    num_heads: int
    hidden_dim: int
    max_slices: int
    embed_dim: int
    text_norm: float | None
    whitened_dim: int
    jepa_dim: int
    whitening_layer: int
    read_layers: tuple[int, ...]
    read_heads: int
    lora: str | dict[str, Any]
    language_model: dict[str, Any] = field(default_factory=dict)


CONFIGS: dict[str, KerVLJEPAConfig] = {
    "paper": KerVLJEPAConfig(
        slice_dim=1024,
        num_zones=32,
        num_heads=16,
        hidden_dim=2048,  # inferred, as all that follows with this mark
        max_slices=600,
        embed_dim=3072,
        text_norm=1.1484,
        whitened_dim=256,
        jepa_dim=1024,  # inferred
        whitening_layer=14,
        read_layers=(7, 14, 21),  # whether counted from 0 is not said
        read_heads=24,  # inferred
        lora="ker_vljepa",
        language_model={
            "model_type": "llama",
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 28,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 128256 + 1,  # Llama-3.2-3B's, and the placeholder
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "tie_word_embeddings": True,
        },
    ),
    # ours: trains on phantoms on one CPU core
    "tiny": KerVLJEPAConfig(
        slice_dim=96,
        num_zones=8,
        num_heads=4,
        hidden_dim=192,
        max_slices=600,
        embed_dim=128,
        text_norm=None,
        whitened_dim=32,
        jepa_dim=128,
        whitening_layer=2,
        read_layers=(1, 2, 3),
        read_heads=4,
        lora={"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        language_model={
            "model_type": "llama",
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
        },
    ),
}


def ker_vljepa_visual(size: Size = "tiny", *, num_labels: int = 18) -> VisualAlignmentModel:
    """Build what phases 1 and 2 train: slice embeddings to zone tokens, label logits and text embeddings.

    Args:
        size: ``"tiny"`` or ``"paper"``.
        num_labels: Labels K.

    Raises:
        ConfigError: If the size is unknown.

    Example:
        >>> from ct_vlm.models import ker_vljepa_visual
        >>> ker_vljepa_visual("tiny").visual.zones.num_zones
        8

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308.
    """
    c = _config(size)
    return VisualAlignmentModel(
        ker_vljepa_encoder(size),
        _visual_tokens(c, c.embed_dim),
        JEPAHead(c.embed_dim, c.whitened_dim, hidden_dim=c.jepa_dim),
        num_labels,
        ker_vljepa_preset(size),
    )


def ker_vljepa(
    size: Size = "tiny",
    *,
    tokenizer: Any = None,
    language_model: Any = None,
    **decoder_options: Any,
) -> VisionLanguageModel:
    """Build the report model of phases 3 and 4.

    Visual tokens take the place of placeholders in the prompt, and the outputs of three layers of the
    language model read them again through gated cross-attention, at every step.

    Args:
        size: ``"tiny"`` or ``"paper"``.
        tokenizer: Tokenizer (object, path or hub id). The paper's is Llama-3.2-3B-Instruct's.
        language_model: Causal LM (object, path, hub id or config) with random weights of the size's
            architecture unless given. One of another width brings its own width along, and visual tokens are
            brought to the mean length of its own input embeddings; on the meta device, which holds no
            lengths, to that of the size.
        decoder_options: Options of :class:`~ct_vlm.decoders.CausalLMDecoder` in place of the size's,
            e.g. ``lora=None``.

    Raises:
        ConfigError: If the size is unknown or no tokenizer is given.

    Example:
        >>> from ct_vlm.decoders import train_bpe_tokenizer
        >>> from ct_vlm.models.ker_vljepa import ker_vljepa
        >>> model = ker_vljepa("tiny", tokenizer=train_bpe_tokenizer(["Effusion is seen."], 270))
        >>> sorted(model.decoder.cross_attention.adapters)
        ['1', '2', '3']

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: 32 tokens, adapters at layers 7, 14 and 21, LoRA of rank 16 in
        392 tensors. Inferred parts are listed in ``docs/papers/ker_vljepa.md``.
    """
    from ct_vlm.decoders import CausalLMDecoder

    c = _config(size)
    if tokenizer is None:
        cause = "The language model needs a tokenizer."
        raise ConfigError(cause, "Pass `tokenizer=`: a path or hub id, or what `train_bpe_tokenizer` returns.")
    width = c.embed_dim if language_model is None else _width(language_model, c.embed_dim)
    options: dict[str, Any] = {
        "lora": c.lora,
        "cross_attention": CrossAttentionAdapters(width, list(c.read_layers), c.read_heads),
        "visual_placeholder": PLACEHOLDER,
    }
    decoder = CausalLMDecoder(language_model or c.language_model, tokenizer, **{**options, **decoder_options})
    visual = _visual_tokens(c, decoder.embed_dim)
    embeddings = decoder.lm.get_input_embeddings().weight
    # the paper's length is that of one language model; random weights in its place have none of their own to go by
    known = language_model is None and c.text_norm is not None
    if not known and not embeddings.is_meta and visual.calibrator is not None:
        visual.calibrator.set_target(embeddings)
    return VisionLanguageModel(ker_vljepa_encoder(size), [visual], decoder, preset=ker_vljepa_preset(size))


def ker_vljepa_encoder(size: Size = "tiny") -> SliceEmbedder:
    """Build the frozen slice encoder; its weights come from LeJEPA pretraining.

    Args:
        size: ``"tiny"`` or ``"paper"``.

    Raises:
        ConfigError: If the size is unknown.
    """
    return SliceEmbedder(lejepa_vit(size, frozen=True), max_slices=_config(size).max_slices)


def ker_vljepa_preset(size: Size = "tiny") -> CTPreset:
    """Return the preprocessing of a size: the paper's windows; phantoms are smaller.

    Args:
        size: ``"tiny"`` or ``"paper"``.

    Raises:
        ConfigError: If the size is unknown.

    Example:
        >>> from ct_vlm.models.ker_vljepa import ker_vljepa_preset
        >>> ker_vljepa_preset("tiny").size
        (None, 48, 48)
    """
    _config(size)
    preset = get_preset("ker_vljepa")
    if size == "paper":
        return preset
    notes = "The values of `ker_vljepa` on slices of 48 x 48 pixels (ours)."
    return replace(preset, name="ker_vljepa_tiny", size=(None, 48, 48), notes=notes)


def _visual_tokens(c: KerVLJEPAConfig, embed_dim: int) -> ZonedVisualTokens:
    zones = ZoneConstrainedCrossAttention(c.slice_dim, c.num_zones, c.num_heads, hidden_dim=c.hidden_dim)
    return ZonedVisualTokens(
        zones, VisualPredictor(c.slice_dim, embed_dim), NormCalibrator(embed_dim, target_norm=c.text_norm)
    )


def _width(language_model: Any, default: int) -> int:
    """Return the width of a language model that is given as an object, a config or a path."""
    if isinstance(language_model, dict):
        return int(language_model.get("hidden_size") or language_model.get("n_embd") or default)
    if hasattr(language_model, "get_input_embeddings"):
        return int(language_model.get_input_embeddings().embedding_dim)
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(language_model).hidden_size)


def _config(size: str) -> KerVLJEPAConfig:
    if size not in CONFIGS:
        cause = f"Unknown size {size!r}."
        raise ConfigError(cause, f"Choose one of {sorted(CONFIGS)}.")
    return CONFIGS[size]
