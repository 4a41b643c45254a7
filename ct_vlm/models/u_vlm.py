"""U-VLM: progressive segmentation, classification and report training with multi-layer injection.

Paper: https://arxiv.org/abs/2603.00479. What is inferred rather than published is marked so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.encoders import ResidualUNetEncoder
from ct_vlm.errors import ConfigError
from ct_vlm.models.classification import ClassificationModel
from ct_vlm.models.segmentation import SegmentationModel
from ct_vlm.models.vlm import VisionLanguageModel
from ct_vlm.modules import (
    LabelTokens,
    MultiLayerVisualInjection,
    PresenceHead,
    QueryClassificationHead,
    UNetDecoder,
)

if TYPE_CHECKING:
    from ct_vlm.modules import Connector

Size = Literal["tiny", "paper"]


@dataclass(frozen=True)
class UVLMConfig:
    """Sizes of a U-VLM.

    Args:
        in_channels: Channels of the volume (HU windows).
        features: Channels of the encoder's stages.
        blocks: Residual blocks of the encoder's stages.
        strides: Strides of the encoder's stages.
        stem_kernel: Kernel of the stem.
        stem_stride: Stride of the stem.
        finest_level: Encoder level at which the segmentation decoder stops.
        head_levels: Encoder levels the classification head reads.
        head_dim: Width of the head; that of the deepest level by default.
        per_query: Whether label k is decided by query k alone, with positions on the keys.
        presence: Whether the head follows cell-wise evidence that stage 1 has trained (ours).
        num_layers: Decoder layers.
        embed_dim: Decoder width.
        num_heads: Decoder heads.
        ffn_dim: Decoder feed-forward width.
        skip_levels: Finest encoder levels that are not injected.
        layers_per_stage: Decoder layers each level feeds.
        source_level: Level placed in the prompt.
        grid: Token grid; that of the source level if None.
        projector_dim: Width of the token projectors' MLP.
        pool: Pooling of finer levels.
        label_tokens: Whether the head's label tokens join the prompt (ours).
        preset: Preprocessing preset.
    """

    in_channels: int
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    strides: tuple[int, ...]
    stem_kernel: int
    stem_stride: int
    finest_level: int
    head_levels: tuple[int, ...]
    head_dim: int | None
    per_query: bool
    presence: bool
    num_layers: int
    embed_dim: int
    num_heads: int
    ffn_dim: int
    skip_levels: int
    layers_per_stage: int
    source_level: int
    grid: tuple[int, int, int] | None
    projector_dim: int
    pool: Literal["avg", "max", "avg_max"]
    label_tokens: bool
    preset: str


CONFIGS: dict[str, UVLMConfig] = {
    "paper": UVLMConfig(
        in_channels=1,
        features=(32, 64, 128, 256, 320, 320),
        blocks=(1, 3, 4, 6, 6, 6),
        strides=(1, 2, 2, 2, 2, 2),
        stem_kernel=3,
        stem_stride=1,
        finest_level=0,
        head_levels=(-1,),
        head_dim=None,
        per_query=False,
        presence=False,
        num_layers=8,
        embed_dim=512,
        num_heads=8,
        ffn_dim=2048,
        skip_levels=2,  # inferred: 8 layers = (6 stages - 2) x 2
        layers_per_stage=2,  # inferred
        source_level=-1,
        grid=None,
        projector_dim=1024,
        pool="avg",
        label_tokens=False,
        preset="uvlm",
    ),
    # ours: trains on phantoms on two CPU cores
    "tiny": UVLMConfig(
        in_channels=3,
        features=(16, 32, 64, 96),
        blocks=(0, 1, 1, 1),
        strides=(1, 2, 2, 2),
        stem_kernel=2,
        stem_stride=2,
        finest_level=1,
        head_levels=(2, 3),
        head_dim=96,
        per_query=True,
        presence=True,
        num_layers=4,
        embed_dim=128,
        num_heads=4,
        ffn_dim=256,
        skip_levels=2,
        layers_per_stage=2,
        source_level=-1,
        grid=(2, 2, 2),
        projector_dim=128,
        pool="avg_max",
        label_tokens=True,
        preset="phantom",
    ),
}


def u_vlm_encoder(size: Size = "tiny") -> ResidualUNetEncoder:
    """Build the encoder that the three stages share.

    Args:
        size: ``"tiny"`` or ``"paper"``.

    Raises:
        ConfigError: If the size is unknown.

    Example:
        >>> from ct_vlm.models import u_vlm_encoder
        >>> u_vlm_encoder("tiny").level_dims
        (16, 32, 64, 96)
    """
    c = _config(size)
    return ResidualUNetEncoder(
        c.in_channels, c.features, c.blocks, c.strides, stem_kernel=c.stem_kernel, stem_stride=c.stem_stride
    )


def u_vlm_head(size: Size = "tiny", num_labels: int = 18, num_classes: int = 35) -> QueryClassificationHead:
    """Build the classification head of stage 2.

    Args:
        size: ``"tiny"`` or ``"paper"``.
        num_labels: Labels K.
        num_classes: Classes of stage 1 with background; its last K are the labels. Only the tiny
            head, which takes over the evidence of stage 1, depends on it.

    Raises:
        ConfigError: If the size is unknown, or stage 1 has fewer classes than there are labels.
    """
    c = _config(size)
    if c.presence and num_labels > num_classes - 1:
        cause = f"{num_classes} classes of stage 1, background among them, cannot hold {num_labels} labels."
        raise ConfigError(cause, "Raise `num_classes` or lower `num_labels`.")
    presence = PresenceHead(c.features, c.head_levels, num_classes - 1) if c.presence else None
    return QueryClassificationHead(
        c.features,
        num_labels,
        levels=c.head_levels,
        embed_dim=c.head_dim,
        classifier="per_query" if c.per_query else "joint",
        position_embedding=c.per_query,
        presence=presence,
        presence_offset=num_classes - 1 - num_labels if c.presence else 0,
    )


def u_vlm_segmentation(size: Size = "tiny", num_classes: int = 35) -> SegmentationModel:
    """Build stage 1.

    Args:
        size: ``"tiny"`` or ``"paper"``.
        num_classes: Classes with background (35 for the phantoms: 16 organs and 18 findings).
    """
    c = _config(size)
    return SegmentationModel(
        u_vlm_encoder(size), UNetDecoder(c.features, c.strides, num_classes, finest_level=c.finest_level)
    )


def u_vlm_classification(size: Size = "tiny", num_labels: int = 18, num_classes: int = 35) -> ClassificationModel:
    """Build stage 2.

    Args:
        size: ``"tiny"`` or ``"paper"``.
        num_labels: Labels K.
        num_classes: Classes of stage 1 with background, see :func:`u_vlm_head`.
    """
    return ClassificationModel(u_vlm_encoder(size), u_vlm_head(size, num_labels, num_classes))


def u_vlm(
    size: Size = "tiny",
    *,
    tokenizer: Any = None,
    language_model: Any = None,
    num_labels: int = 18,
    num_classes: int = 35,
    inject: bool = True,
    **decoder_options: Any,
) -> VisionLanguageModel:
    """Build stage 3: the report model of U-VLM.

    Args:
        size: ``"tiny"`` or ``"paper"``.
        tokenizer: Tokenizer (object, path or hub id). The paper's is Qwen3's.
        language_model: Any ``transformers`` causal LM (object, path or config) in place of the
            from-scratch decoder.
        num_labels: Labels of the head whose tokens join the prompt (tiny only).
        num_classes: Classes of stage 1 with background, see :func:`u_vlm_head` (tiny only).
        inject: Off gives the input-layer-only ablation.
        decoder_options: Options of :class:`~ct_vlm.decoders.CausalLMDecoder`, e.g. ``lora``.

    Raises:
        ConfigError: If the size is unknown or no tokenizer is given.

    References:
        U-VLM, arXiv 2603.00479: 90.30 M encoder parameters, 8-layer 512-wide decoder. Differs from
        the released code as ``docs/papers/u_vlm.md`` lists.
    """
    from ct_vlm.decoders import CausalLMDecoder, small_report_decoder

    c = _config(size)
    if language_model is not None:
        decoder = CausalLMDecoder(language_model, tokenizer, hybrid_mask=True, **decoder_options)
    elif tokenizer is None:
        cause = "The from-scratch decoder needs a tokenizer."
        raise ConfigError(cause, "Pass `tokenizer=` (e.g. from `train_bpe_tokenizer`), or a `language_model`.")
    else:
        sizes = {"num_layers": c.num_layers, "embed_dim": c.embed_dim, "num_heads": c.num_heads, "ffn_dim": c.ffn_dim}
        decoder = small_report_decoder(tokenizer, **{**sizes, **decoder_options})
    connectors: list[Connector] = [
        MultiLayerVisualInjection(
            c.features,
            decoder.embed_dim,
            decoder.num_layers,
            source_level=c.source_level,
            grid=c.grid,
            skip_levels=c.skip_levels,
            layers_per_stage=c.layers_per_stage,
            hidden_dim=c.projector_dim,
            pool=c.pool,
            inject=inject,
            position_embedding=c.per_query,
        )
    ]
    if c.label_tokens:
        connectors.append(LabelTokens(u_vlm_head(size, num_labels, num_classes), decoder.embed_dim))
    return VisionLanguageModel(u_vlm_encoder(size), connectors, decoder, preset=c.preset)


def _config(size: str) -> UVLMConfig:
    if size not in CONFIGS:
        msg = f"No U-VLM of size {size!r}."
        raise ConfigError(msg, f"Choose one of {sorted(CONFIGS)}.")
    return CONFIGS[size]
