"""MedRegion-CT: a text a region, from R² tokens, mask tokens and patient attributes.

Paper: https://arxiv.org/abs/2506.23102. What is inferred rather than published is marked so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.encoders import SliceEncoder
from ct_vlm.errors import ConfigError
from ct_vlm.models.vlm import VisionLanguageModel
from ct_vlm.modules import AttributeText, MaskDrivenVisualExtractor, R2TokenPooling
from ct_vlm.text.region_prompts import RegionPrompts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.encoders import Encoder
    from ct_vlm.modules import Connector
    from ct_vlm.transforms import CTPreset

Size = Literal["tiny", "paper"]
Policy = Literal["region_argmax", "uniform"]

RAD_DINO: dict[str, Any] = {
    "model_type": "dinov2",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 14,
    "image_size": 518,
}
"""Architecture of RAD-DINO, a ViT-B/14 (the image size is that of its public checkpoint)."""

LLAMA_3_8B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
"""Architecture of Llama-3-8B, for counts without weights."""

PAPER_LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1}
"""The paper's adapters; that they sit on the attention projections is inferred."""


@dataclass(frozen=True)
class MedRegionConfig:
    """Sizes of a MedRegion-CT.

    Args:
        backbone: Architecture of the slice encoder where no checkpoint is given.
        layers: Blocks whose hidden states are read, counted from 1.
        in_channels: Channels of the volume (HU windows).
        num_slices: Slices D of a volume.
        slow_grid: Token grid of a region's representative slice.
        uniform: Slices and token grid of uniform sampling, of as many tokens.
        hidden_dim: Width of the mask extractor's projections.
        max_length: Longest training text in tokens.
        preset: Preprocessing, by name or as an object.
        language_model: Causal LM that is trained from scratch where none is given; None asks for one.
    """

    backbone: Mapping[str, Any]
    layers: tuple[int, ...]
    in_channels: int
    num_slices: int
    slow_grid: tuple[int, int]
    uniform: tuple[int, tuple[int, int]]
    hidden_dim: int
    max_length: int | None
    preset: str | CTPreset
    language_model: Mapping[str, Any] | None = None


CONFIGS: dict[str, MedRegionConfig] = {
    "paper": MedRegionConfig(
        backbone=RAD_DINO,
        layers=(3, 6, 9, 12),  # inferred
        in_channels=3,
        num_slices=32,
        slow_grid=(9, 6),  # inferred: 32 + 6 * 9 * 6 = 356 tokens
        uniform=(4, (9, 9)),  # inferred: LITA's rule at as many tokens
        hidden_dim=1024,  # inferred: Osprey's
        max_length=2048,
        preset="medregion",
    ),
    # ours: trains on phantoms on two CPU cores
    "tiny": MedRegionConfig(
        backbone={
            "model_type": "dinov2",
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "patch_size": 8,
            "image_size": 64,
        },
        layers=(2, 4),
        in_channels=3,
        num_slices=64,
        slow_grid=(3, 3),
        uniform=(6, (3, 3)),
        hidden_dim=64,
        max_length=None,
        preset="phantom",
        language_model={
            "model_type": "llama",
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 1024,
        },
    ),
}


def medregion_ct_encoder(
    size: Size | MedRegionConfig = "tiny", backbone: Any = None, **encoder_options: Any
) -> SliceEncoder:
    """Build the slice encoder.

    Args:
        size: ``"tiny"``, ``"paper"``, or sizes of one's own.
        backbone: Folder or hub id of a pretrained ViT such as RAD-DINO, or what
            :class:`~ct_vlm.encoders.SliceEncoder` takes else; random weights if None.
        encoder_options: Further options of :class:`~ct_vlm.encoders.SliceEncoder`, e.g. ``frozen``.

    Raises:
        ConfigError: If the size is unknown.

    Example:
        >>> from ct_vlm.models import medregion_ct_encoder
        >>> medregion_ct_encoder("tiny").level_dims
        (64, 64)
    """
    c = _config(size)
    options = {"layers": c.layers, "in_channels": c.in_channels, **encoder_options}
    return SliceEncoder(dict(c.backbone) if backbone is None else backbone, **options)


def medregion_ct(
    size: Size | MedRegionConfig = "tiny",
    *,
    tokenizer: Any,
    language_model: Any = None,
    backbone: Any = None,
    encoder: Encoder | None = None,
    stage: Literal[1, 2] = 2,
    attributes: bool = True,
    mask_tokens: bool = True,
    policy: Policy = "region_argmax",
    regions: str | Sequence[str] = "six",
    region_options: Mapping[str, Any] | None = None,
    **decoder_options: Any,
) -> VisionLanguageModel:
    """Build the report model of MedRegion-CT.

    The rows of the paper's Table 1 are ``mask_tokens=False, attributes=False`` (R² only),
    ``attributes=False`` (+ mask), ``mask_tokens=False`` (+ attributes), the defaults (full), and
    ``policy="uniform", mask_tokens=False, attributes=False`` (LITA).

    Args:
        size: ``"tiny"``, ``"paper"``, or sizes of one's own.
        tokenizer: Tokenizer (object, path or hub id). The paper's is Llama-3's.
        language_model: Path, hub id, config dict or object of a causal LM; it gets the paper's LoRA
            adapters unless ``lora`` says otherwise. The tiny size has one of its own, without
            adapters: it is trained from scratch.
        backbone: See :func:`medregion_ct_encoder`.
        encoder: A built encoder instead, e.g. one that was pretrained.
        stage: 1 builds the model of the connector's stage: R² tokens and whole reports. Its connector
            goes to stage 2 by ``init_from={"connectors.0": ...}``.
        attributes: Whether patient attributes (``attributes`` of the batch) join the prompt.
        mask_tokens: Whether every region has a mask token and a spatial token.
        policy: How slices that are kept in detail are chosen.
        regions: Regions that masks and texts are of, in the order of the batch's masks.
        region_options: Further settings of :class:`~ct_vlm.text.RegionPrompts`, e.g. ``missing``.
        decoder_options: Options of :class:`~ct_vlm.decoders.CausalLMDecoder`, e.g. ``lora`` or
            ``gradient_checkpointing``.

    Raises:
        ConfigError: If the size is unknown, or the paper's size gets no language model.

    Example:
        >>> from ct_vlm.decoders import train_bpe_tokenizer
        >>> from ct_vlm.models import medregion_ct
        >>> model = medregion_ct("tiny", tokenizer=train_bpe_tokenizer(["clear lungs"], 270))
        >>> [type(connector).__name__ for connector in model.connectors]
        ['R2TokenPooling', 'MaskDrivenVisualExtractor', 'AttributeText']

    References:
        MedRegion-CT, arXiv 2506.23102. ``docs/papers/medregion_ct.md`` lists what is inferred.
    """
    from ct_vlm.decoders import CausalLMDecoder

    c = _config(size)
    prompts = RegionPrompts(regions if isinstance(regions, str) else tuple(regions), **(region_options or {}))
    if stage not in (1, 2):
        cause = f"MedRegion-CT is trained in stages 1 and 2, but got {stage!r}."
        raise ConfigError(cause, "Pass 1 for the connector's stage, 2 for the report model.")
    if language_model is None and c.language_model is None:
        cause = "MedRegion-CT of this size needs a pretrained language model."
        raise ConfigError(cause, "Pass `language_model=`, the folder or hub id of Llama-3-8B.")
    if language_model is not None and stage == 2:
        decoder_options.setdefault("lora", dict(PAPER_LORA))
    lm = dict(c.language_model or {}) if language_model is None else language_model
    decoder = CausalLMDecoder(lm, tokenizer, **decoder_options)
    encoder = medregion_ct_encoder(c, backbone) if encoder is None else encoder
    return VisionLanguageModel(
        encoder,
        _connectors(c, encoder.level_dims, decoder.embed_dim, prompts, policy, mask_tokens, attributes, stage),
        decoder,
        preset=c.preset,
        max_length=c.max_length,
        region_prompts=prompts if stage == 2 else None,
    )


def _connectors(
    c: MedRegionConfig,
    level_dims: Sequence[int],
    embed_dim: int,
    prompts: RegionPrompts,
    policy: Policy,
    mask_tokens: bool,
    attributes: bool,
    stage: int,
) -> list[Connector]:
    """Build the connectors that a stage and an ablation have."""
    number, grid = c.uniform if policy == "uniform" else (len(prompts.names), c.slow_grid)
    pooling: dict[str, Any] = {"num_slow": number, "slow_grid": grid, "policy": policy}
    connectors: list[Connector] = [R2TokenPooling(level_dims, embed_dim, **pooling)]
    if mask_tokens and stage == 2:
        extractor = MaskDrivenVisualExtractor(
            level_dims,
            embed_dim,
            len(prompts.names),
            hidden_dim=c.hidden_dim,
            pooling=R2TokenPooling(**pooling),
            num_slices=c.num_slices,
        )
        connectors.append(extractor)
    if attributes and stage == 2:
        connectors.append(AttributeText())
    return connectors


def _config(size: str | MedRegionConfig) -> MedRegionConfig:
    if isinstance(size, MedRegionConfig):
        return size
    if size not in CONFIGS:
        msg = f"No MedRegion-CT of size {size!r}."
        raise ConfigError(msg, f"Choose one of {sorted(CONFIGS)}.")
    return CONFIGS[size]
