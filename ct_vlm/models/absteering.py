"""AbSteering: a video language model that lists abnormalities before it writes the report.

Paper: https://arxiv.org/abs/2603.12469. What is inferred rather than published is marked so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.decoders.lora import LLAMA_LINEARS
from ct_vlm.encoders import AbsentEncoder, InternVLVideoInputs, QwenVideoInputs, VideoLMEncoder
from ct_vlm.encoders.video_lm import default_inputs
from ct_vlm.errors import ConfigError
from ct_vlm.models.vlm import VisionLanguageModel
from ct_vlm.modules import VideoTokens
from ct_vlm.text.steering import STEERING_PROMPT
from ct_vlm.transforms import FrameSampling, get_preset
from ct_vlm.transforms.frame_sampling import FILM_FPS
from ct_vlm.video_lm.loading import config_values
from ct_vlm.video_lm.published import PUBLISHED
from ct_vlm.video_lm.tiny import TINY, tiny_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.encoders import Encoder, VideoInputs
    from ct_vlm.encoders.video_lm import Vision
    from ct_vlm.transforms import CTPreset

Size = Literal["tiny", "paper"]
Backbone = Literal["qwen2_5_vl", "qwen3_vl", "internvl"]

REPORT_PROMPT = "Write the report."
"""Instruction without steering: the paper's baseline (its wording is inferred)."""

PAPER_LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": list(LLAMA_LINEARS)}
"""Adapters on the language model; that it has some is the paper's, their settings are inferred."""


@dataclass(frozen=True)
class AbSteeringConfig:
    """Settings of an AbSteering model.

    Args:
        models: Configs of the video language models, by family.
        preset: Preprocessing, by family.
        inputs: How volumes become inputs of the tower, by family; families that are missing take their
            processor's way.
        vision: What of the tower is trained.
        lora: Adapters of the language model; None trains all of it.
        timed: Whether the time between frames is that of the film; else a step takes a second.
    """

    models: Mapping[str, Mapping[str, Any]]
    preset: Mapping[str, CTPreset]
    inputs: Mapping[str, VideoInputs]
    vision: Vision
    lora: Mapping[str, Any] | None
    timed: bool


def _tiny_preset(name: str, slices: int) -> CTPreset:
    """Return slabs of a phantom with three windows as colours."""
    notes = "Slabs of phantoms for the tiny AbSteering models: lung, soft-tissue and bone windows (our own)."
    size = (slices, 64, 64)
    return replace(get_preset("phantom"), name=f"absteering_tiny_{name}", size=size, interpolation="area", notes=notes)


_TINY_FRAMES = QwenVideoInputs("all", patch_size=8, min_pixels=64 * 64, max_pixels=64 * 64)

CONFIGS: dict[str, AbSteeringConfig] = {
    "paper": AbSteeringConfig(
        models=PUBLISHED,
        preset=dict.fromkeys(("qwen2_5_vl", "qwen3_vl", "internvl"), get_preset("absteering")),
        inputs={},
        vision="frozen",
        lora=PAPER_LORA,
        timed=True,
    ),
    # ours: 96 visual tokens; random weights, hence all of them learn
    "tiny": AbSteeringConfig(
        models=TINY,
        preset={
            "qwen2_5_vl": _tiny_preset("qwen", 12),
            "qwen3_vl": _tiny_preset("qwen", 12),
            "internvl": _tiny_preset("internvl", 6),
        },
        inputs={
            "qwen2_5_vl": _TINY_FRAMES,
            "qwen3_vl": replace(_TINY_FRAMES, mean=(0.5,) * 3, std=(0.5,) * 3),
            "internvl": InternVLVideoInputs("all", size=64, patch_size=8),
        },
        vision="full",
        lora=None,
        timed=False,
    ),
}


def absteering(
    size: Size | AbSteeringConfig = "tiny",
    *,
    backbone: Backbone = "qwen2_5_vl",
    model: Any = None,
    tokenizer: Any = None,
    steering: bool = True,
    prompt: str | None = None,
    vision: Vision | None = None,
    num_frames: int | None = None,
    cached: bool = False,
    preset: CTPreset | str | None = None,
    **decoder_options: Any,
) -> VisionLanguageModel:
    """Build a model of both of AbSteering's stages.

    The paper's rows differ in what the model is trained on: ``steering=False`` on reports alone is the
    baseline; ``steering=True`` on lists and reports is stage 1; and preference training of either is
    stage 2 (``docs/papers/absteering.md``).

    Args:
        size: ``"tiny"``, ``"paper"``, or settings of one's own.
        backbone: Family of the video language model.
        model: Path or hub id of a video language model, a config dict, or the model itself; random
            weights of the size's architecture if None.
        tokenizer: Tokenizer (object, path or hub id); that of the model's path if None.
        steering: Whether the instruction asks for abnormalities by region before the report.
        prompt: An instruction in place of those two.
        vision: What of the tower is trained: ``"frozen"``, ``"lora"``, ``"full"`` or ``"scratch"``.
        num_frames: Frames that the tower sees, evenly spread, in place of the size's rule.
        cached: Leave the tower out: the model reads visual tokens from disk
            (:class:`ct_vlm.datamodules.CachedFeatureDataModule`).
        preset: Preprocessing in place of the size's.
        decoder_options: Options of :class:`~ct_vlm.decoders.VideoLMDecoder`, e.g. ``lora`` or
            ``gradient_checkpointing``.

    Raises:
        ConfigError: If size, family and options do not fit, or there is no tokenizer.
        CheckpointError: If the path or hub id holds no model.

    Example:
        >>> from ct_vlm.decoders import train_bpe_tokenizer
        >>> from ct_vlm.models.absteering import absteering
        >>> model = absteering("tiny", backbone="internvl", tokenizer=train_bpe_tokenizer(["clear lungs"], 270))
        >>> model.encoder.inputs.num_tokens(6, 64, 64), model.prompt.template
        (96, 'List the abnormalities by region, then write the full report.')

    References:
        AbSteering, arXiv 2603.12469. ``docs/papers/absteering.md`` lists what is inferred.
    """
    from ct_vlm.decoders import VideoLMDecoder

    c = _config(size)
    source = _source(c, backbone, model)
    chosen = c.preset[backbone] if preset is None else get_preset(preset)
    inputs = _inputs(c, backbone, source, num_frames)
    encoder: Encoder | None = None
    if not cached:
        # what says how weights are kept and computed with holds for both halves
        both: dict[str, Any] = {name: decoder_options.get(name) for name in ("dtype", "attn_implementation")}
        encoder = VideoLMEncoder(source, inputs, in_channels=chosen.channels, vision=vision or c.vision, **both)
    elif vision not in (None, "frozen"):
        cause = f"A tower that is left out cannot be trained, but `vision` is {vision!r}."
        raise ConfigError(cause, "Pass cached=False, or vision='frozen'.")
    options = {"lora": None if c.lora is None else dict(c.lora), **decoder_options}
    if c.timed and "seconds_per_grid" not in options:
        options["seconds_per_grid"] = _seconds(chosen, inputs)
    decoder = VideoLMDecoder(source, tokenizer, **options)
    if encoder is None:
        encoder = AbsentEncoder(_level_dims(decoder), chosen.channels)
    words = prompt or (STEERING_PROMPT if steering else REPORT_PROMPT)
    return VisionLanguageModel(encoder, [VideoTokens(encoder.level_dims)], decoder, words, chosen)


def _config(size: str | AbSteeringConfig) -> AbSteeringConfig:
    """Return the settings that a size stands for."""
    if isinstance(size, AbSteeringConfig):
        return size
    if size not in CONFIGS:
        msg = f"No AbSteering of size {size!r}."
        raise ConfigError(msg, f"Choose one of {sorted(CONFIGS)}.")
    return CONFIGS[size]


def _source(c: AbSteeringConfig, backbone: str, model: Any) -> Any:
    """Return what the halves of the model are built from."""
    if model is None:
        if backbone not in c.models:
            cause = f"This size of AbSteering has no architecture of the family {backbone!r}."
            raise ConfigError(cause, f"Choose one of {sorted(c.models)}, or pass `model`.")
        return tiny_config(backbone) if c.models is TINY else config_values(dict(c.models[backbone]))
    have = config_values(model)["model_type"]
    if have != backbone:
        cause = f"The model is a `{have}`, but `backbone` is {backbone!r}."
        raise ConfigError(cause, f"Pass backbone={have!r}.")
    return model


def _inputs(c: AbSteeringConfig, backbone: str, source: Any, num_frames: int | None) -> VideoInputs:
    """Return how volumes become inputs of the tower."""
    inputs = c.inputs.get(backbone) or default_inputs(source)
    if num_frames is None:
        return inputs
    return replace(inputs, sampling=FrameSampling("uniform", num_frames=num_frames))  # type: ignore[type-var]


def _seconds(preset: CTPreset, inputs: VideoInputs) -> float:
    """Return the time between two steps of visual tokens in the film of a volume of the preset's size."""
    size = [240 if length is None else length for length in preset.size or (None, 480, 480)]
    return size[0] / FILM_FPS / inputs.token_grid(*size)[0]


def _level_dims(decoder: Any) -> tuple[int, ...]:
    """Return the channels of the levels that the tower would have."""
    extra = getattr(decoder.lm.config.vision_config, "deepstack_visual_indexes", None) or ()
    return (decoder.embed_dim,) * (len(extra) + 1)
