"""The seeing half of a video language model as an encoder.

Paper: AbSteering, https://arxiv.org/abs/2603.12469 (Qwen2.5-VL and InternVL3, frozen vision towers).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch

from ct_vlm.encoders.base import Encoder, check_image
from ct_vlm.encoders.video_inputs import InternVLVideoInputs, QwenVideoInputs
from ct_vlm.encoders.video_settings import read_video_inputs
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.video_lm.families import family_of
from ct_vlm.video_lm.loading import config_values, load_half, recompute_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ct_vlm.encoders.video_inputs import Sampling, VideoInputs

Vision = Literal["frozen", "lora", "full", "scratch"]
VISION_LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16}
"""Adapters of the tower's attention: the rank is that of the paper's ablation, the rest is inferred."""


class VideoLMEncoder(Encoder):
    """Vision tower and projector of Qwen2.5-VL, Qwen3-VL or InternVL: a volume to the LM's visual tokens.

    The volume's slices are a film. Sampling, resizing and normalisation are what the model's own
    processor does (``inputs``), tower and projector are transformers' own, and the tokens are those of
    the whole model, at the language model's width. The last level holds them; Qwen3-VL has the
    intermediate states that its first layers read as levels before it.

    A frozen tower encodes one sample after the other, so that a volume has the same tokens, to the
    bit, in every batch, today or from a cache.

    Args:
        model: Path or hub id of a video language model, a config dict with ``model_type`` (random
            weights), or the model itself, whose seeing half is taken over.
        inputs: How a volume becomes the tower's inputs; None takes the settings of the checkpoint's
            processor, or without such files the family's, with the sizes of the model's config.
        in_channels: Channels of the volume: 3, or 1 for gray.
        vision: ``"frozen"``; ``"lora"`` trains adapters on the attention, ``"full"`` all weights;
            ``"scratch"`` draws new weights and trains them all.
        lora: Arguments of ``peft.LoraConfig`` for ``"lora"``, in place of the paper's rank 8.
        gradient_checkpointing: Whether layers are recomputed in the backward pass.
        attn_implementation: Attention of the tower; None lets transformers choose.
        dtype: Parameter type such as ``"bfloat16"``; None keeps that of the weights.

    Attributes:
        input_dtype: Type that volumes should have, whatever that of the weights.

    Shape:
        - Input: ``(B, C, D, H, W)`` in [0, 1], C is 1 or 3.
        - Output: levels ``(B, T' * H' * W', E)`` on the grid ``(T', H', W')``.

    Raises:
        ConfigError: If it is no video language model, the options are unknown, or ``inputs`` makes patches
            that the tower does not read. InternVL's ``size`` is free: its tower interpolates positions.
        CheckpointError: If a path or hub id holds no model.
        ShapeError: If the volume has another rank, dtype, range or channel count.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import VideoLMEncoder
        >>> from ct_vlm.video_lm.tiny import tiny_config
        >>> encoder = VideoLMEncoder(tiny_config("internvl"))
        >>> features = encoder(torch.rand(1, 3, 18, 48, 48))
        >>> features.grids, features.levels[0].shape
        ([(4, 4, 4)], torch.Size([1, 64, 128]))

    References:
        AbSteering, arXiv 2603.12469: frozen towers; adapters of rank 8 bring nothing, and a tower from
        scratch loses much.
    """

    input_dtype = torch.float32

    def __init__(
        self,
        model: Any,
        inputs: VideoInputs | None = None,
        *,
        in_channels: int = 3,
        vision: Vision = "frozen",
        lora: dict[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        attn_implementation: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__()
        _check_options(vision, lora, in_channels)
        self.family, self.vision, self.in_channels = family_of(model), vision, in_channels
        values = config_values(model)
        source = values if vision == "scratch" else model
        self.body = load_half(source, "vision", dtype=dtype, attn_implementation=attn_implementation)
        self.inputs = default_inputs(model) if inputs is None else inputs
        if not isinstance(self.inputs, InternVLVideoInputs if self.family.writing == "numbered" else QwenVideoInputs):
            cause = f"`{type(self.inputs).__name__}` does not make what the tower of `{self.family.model_type}` reads."
            raise ConfigError(cause, "Pass `QwenVideoInputs` for Qwen, `InternVLVideoInputs` for InternVL.")
        _check_sizes(self.inputs, self.body.config)
        extra = getattr(self.body.config.vision_config, "deepstack_visual_indexes", None) or ()
        self.level_dims = (self.body.config.text_config.hidden_size,) * (len(extra) + 1)
        resolved = {"model": values, "inputs": self.inputs}
        self._init_args.update({name: value for name, value in resolved.items() if name in self._init_args})
        self.body.requires_grad_(vision in ("full", "scratch"))
        if vision == "lora":
            _add_lora(self.body, {"target_modules": self.family.attention, **VISION_LORA, **(lora or {})})
        if gradient_checkpointing:
            recompute_layers(self.body)
        self.train(self.training)

    @property
    def frozen(self) -> bool:
        """Whether nothing of the tower is trained."""
        return self.vision == "frozen"

    def forward(self, image: Tensor) -> Features:
        """Encode a windowed volume ``(B, C, D, H, W)``."""
        check_image(image, self.in_channels)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            # sums of one sample must not depend on who else is in the batch
            parts = [self._encode(part) for part in (image.split(1) if self.frozen else [image])]
        levels = [torch.cat(level) for level in zip(*parts, strict=True)]
        return Features(levels, [self.inputs.token_grid(*image.shape[2:])] * len(levels))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen tower stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Return the levels of some samples."""
        inputs, batch = self.inputs(image), image.shape[0]
        if "pixel_values" in inputs:
            tokens = self.body.get_image_features(**inputs, return_dict=True).pooler_output
            return [tokens.reshape(batch, -1, tokens.shape[-1])]
        found = self.body.get_video_features(**inputs, return_dict=True)
        levels = [*(getattr(found, "deepstack_features", None) or ()), found.pooler_output]
        return [torch.cat(list(level)).unflatten(0, (batch, -1)) for level in levels]


def default_inputs(model: Any, sampling: Sampling | None = None) -> VideoInputs:
    """Return how a model's own processor makes inputs.

    Args:
        model: A checkpoint's folder, whose processor files are read; or a hub id, config dict or model, of
            whose config the sizes are taken.
        sampling: Which slices become frames; the family's rule if None.

    Raises:
        ConfigError: If it is no video language model.
        CheckpointError: If a path or hub id holds no model.

    Example:
        >>> from ct_vlm.encoders.video_lm import default_inputs
        >>> default_inputs({"model_type": "internvl"}).size
        448
    """
    if isinstance(model, str | Path) and Path(model).is_dir():
        return read_video_inputs(model, sampling)
    values = config_values(model)
    vision: dict[str, Any] = values.get("vision_config") or {}
    options: dict[str, Any] = {} if sampling is None else {"sampling": sampling}
    sizes: dict[str, Any] = {
        name: _side(vision[name]) for name in ("patch_size", "temporal_patch_size") if name in vision
    }
    if values["model_type"] == "internvl":
        sizes |= {"size": _side(vision["image_size"])} if "image_size" in vision else {}
        return InternVLVideoInputs(**options, **sizes, downsample=round(1 / values.get("downsample_ratio", 0.5)))
    is_third = values["model_type"] == "qwen3_vl"
    sizes = {"patch_size": 16 if is_third else 14, "merge_size": vision.get("spatial_merge_size", 2), **sizes}
    # the processors' limits, which are those of the family's usual patches
    scale = (sizes["patch_size"] * sizes["merge_size"]) ** 2
    limits: dict[str, Any] = {"min_pixels": 128 * scale, "max_pixels": 768 * scale}
    if is_third:
        return QwenVideoInputs(**options, **sizes, **limits, mean=(0.5,) * 3, std=(0.5,) * 3, pixel_limit="film")
    return QwenVideoInputs(**options, **sizes, **limits)


def _check_options(vision: str, lora: Mapping[str, Any] | None, in_channels: int) -> None:
    """Refuse options that do not fit together."""
    if vision not in get_args(Vision):
        cause = f"Expected `vision` to be one of {get_args(Vision)}, but got {vision!r}."
        raise ConfigError(cause, "The paper's choice is 'frozen'.")
    if lora is not None and vision != "lora":
        cause = f"`lora` has no effect with vision={vision!r}."
        raise ConfigError(cause, "Pass vision='lora', or leave `lora` out.")
    if in_channels not in (1, 3):
        cause = f"A film has 1 or 3 channels, but `in_channels` is {in_channels}."
        raise ConfigError(cause, "Use a preset with one HU window, or three.")


def _check_sizes(inputs: VideoInputs, config: Any) -> None:
    """Refuse inputs whose patches are not those of the tower: it would fail in the first batch, or miscount."""
    vision = config.vision_config
    want = {"patch_size": _side(vision.patch_size)}
    if isinstance(inputs, InternVLVideoInputs):
        want["downsample"] = round(1 / config.downsample_ratio)
    else:
        want |= {"merge_size": vision.spatial_merge_size, "temporal_patch_size": vision.temporal_patch_size}
    have = {name: getattr(inputs, name) for name in want}
    if have != want:
        odd = " and ".join(
            f"`{name}` {have[name]}, but its config {want[name]}" for name in want if have[name] != want[name]
        )
        cause = f"What the tower of this `{config.model_type}` reads does not fit: `inputs` has {odd}."
        raise ConfigError(cause, "Leave `inputs` out to take the checkpoint's own, or give it the config's values.")


def _add_lora(body: Any, settings: Mapping[str, Any]) -> None:
    """Add adapters to the tower, in place."""
    from peft import LoraConfig, inject_adapter_in_model

    try:
        inject_adapter_in_model(LoraConfig(**settings), body)
    except (TypeError, ValueError) as error:
        cause = f"Cannot add LoRA with {dict(settings)}: {error}."
        raise ConfigError(cause, "Check the names against `peft.LoraConfig` and the tower's modules.") from error


def _side(size: Any) -> int:
    """Return one side of a square size."""
    return int(size if isinstance(size, int) else size[0])
