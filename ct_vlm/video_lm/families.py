"""What tells one family of video language models from another: tokens, prompts, names of the parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ct_vlm.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class VideoFamily:
    r"""A family of video language models, as transformers implements it.

    Args:
        model_type: Its ``model_type`` in transformers' configs.
        placeholder: Token that stands for one visual token in a prompt.
        id_name: Field of the model's config that holds the placeholder's id.
        opening: Token before visual tokens.
        closing: Token after visual tokens.
        chat_video: What the family's chat template writes for a video, once.
        writing: How a video is written out: in one ``"block"``, or frame by frame with their numbers
            (``"numbered"``) or times (``"timed"``).
        tower: Attributes of the model's body that only turn frames into tokens.
        rotary: Whether a visual token's position has three parts: time, row and column.
        timed: Whether the time between frames enters those positions.
        other_ids: Further fields of the config that hold ids, and their tokens; transformers looks for
            some of them in every prompt.
        attention: Pattern of the names of the tower's attention projections, where adapters go.

    Example:
        >>> from ct_vlm.video_lm.families import FAMILIES
        >>> FAMILIES["internvl"].write_video((2, 1, 2), 1.0)
        'Frame1: <img><IMG_CONTEXT><IMG_CONTEXT></img>\nFrame2: <img><IMG_CONTEXT><IMG_CONTEXT></img>'
    """

    model_type: str
    placeholder: str
    id_name: str
    opening: str
    closing: str
    chat_video: str
    writing: Literal["block", "numbered", "timed"]
    tower: tuple[str, ...]
    rotary: bool
    attention: str
    timed: bool = False
    other_ids: tuple[tuple[str, str], ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Special tokens that a tokenizer of this family needs."""
        return tuple(dict.fromkeys((self.opening, self.closing, self.placeholder, *dict(self.other_ids).values())))

    @property
    def token_ids(self) -> dict[str, str]:
        """Fields of the config that hold ids, each with its token."""
        return {self.id_name: self.placeholder, **dict(self.other_ids)}

    def write_video(self, grid: tuple[int, int, int], seconds_per_grid: float) -> str:
        """Return the text in which every visual token has its placeholder.

        Args:
            grid: Time steps, rows and columns of the visual tokens.
            seconds_per_grid: Time between two steps.
        """
        steps, each = grid[0], self.placeholder * (grid[1] * grid[2])
        if self.writing == "block":
            return f"{self.opening}{each * steps}{self.closing}"
        blocks = [f"{self.opening}{each}{self.closing}"] * steps
        if self.writing == "numbered":
            return "\n".join(f"Frame{number}: {block}" for number, block in enumerate(blocks, start=1))
        # the middle of the two frames that a step joins
        times = [step * seconds_per_grid + seconds_per_grid / 4 for step in range(steps)]
        return "".join(f"<{time:.1f} seconds>{block}" for time, block in zip(times, blocks, strict=True))


_QWEN: dict[str, Any] = {
    "placeholder": "<|video_pad|>",
    "id_name": "video_token_id",
    "opening": "<|vision_start|>",
    "closing": "<|vision_end|>",
    "chat_video": "<|vision_start|><|video_pad|><|vision_end|>",
    "tower": ("visual",),
    "rotary": True,
    "attention": r".*\.attn\.(qkv|proj)",
    "other_ids": (
        ("vision_start_token_id", "<|vision_start|>"),
        ("vision_end_token_id", "<|vision_end|>"),
        ("image_token_id", "<|image_pad|>"),
    ),
}

FAMILIES: dict[str, VideoFamily] = {
    "qwen2_5_vl": VideoFamily("qwen2_5_vl", writing="block", timed=True, **_QWEN),
    "qwen3_vl": VideoFamily("qwen3_vl", writing="timed", **_QWEN),
    "internvl": VideoFamily(
        "internvl",
        placeholder="<IMG_CONTEXT>",
        id_name="image_token_id",
        opening="<img>",
        closing="</img>",
        chat_video="<video>",
        writing="numbered",
        tower=("vision_tower", "multi_modal_projector"),
        rotary=False,
        attention=r".*\.attention\.(q_proj|k_proj|v_proj|projection_layer)",
    ),
}
"""Families by the ``model_type`` of transformers."""


def family_of(model: Any) -> VideoFamily:
    """Return the family of a model that is given as an object, a config, or a path or hub id.

    Args:
        model: A ``PreTrainedModel``, a dict with ``model_type``, or a path or hub id.

    Raises:
        ConfigError: If it is no video language model of a known family.
        CheckpointError: If the path or hub id holds no model.

    Example:
        >>> from ct_vlm.video_lm.families import family_of
        >>> family_of({"model_type": "internvl"}).placeholder
        '<IMG_CONTEXT>'
    """
    if isinstance(model, Mapping):
        name = model.get("model_type")
    elif hasattr(model, "config"):
        name = model.config.model_type
    else:
        name = _read_model_type(str(model))
    if name not in FAMILIES:
        cause = f"`{name}` is no known family of video language models."
        raise ConfigError(cause, f"Use a model whose `model_type` is one of {', '.join(sorted(FAMILIES))}.")
    return FAMILIES[name]


def _read_model_type(source: str) -> Any:
    """Return the ``model_type`` that a checkpoint's config names."""
    file = Path(source) / "config.json"
    try:
        if file.is_file():
            return json.loads(file.read_text(encoding="utf-8")).get("model_type")
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(source).model_type
    except (OSError, ValueError) as error:
        cause = f"Cannot read the config of a video language model from `{source}`: {error}"
        raise CheckpointError(cause, "Pass a directory with config.json and weights, or a hub id.") from error
