"""Building one half of a video language model: what sees, or what writes."""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.video_lm.families import FAMILIES, family_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Half = Literal["vision", "language"]


def load_half(
    model: Any, half: Half, *, dtype: str | None = None, attn_implementation: str | None = None, **text: Any
) -> Any:
    """Return a video language model of transformers of which only one half is left.

    State-dict keys, class and config stay those of transformers; the parts of the other half become
    None. From a path, layers of the other half are not even built.

    Args:
        model: A path or hub id (weights are loaded), a config dict with ``model_type`` (weights are
            random), or a model, which is taken over: what is taken of it is gone from it.
        half: ``"vision"`` returns the model's body with tower and projector, ``"language"`` the model
            with language model and head.
        dtype: Parameter type such as ``"bfloat16"``; None keeps that of the weights or the config.
        attn_implementation: Attention; None lets transformers choose.
        text: Fields of the config's ``text_config``, where a dict leaves them open.

    Raises:
        ConfigError: If it is no video language model of a known family, or that half was taken already.
        CheckpointError: If the path or hub id holds no model, or lacks weights of this half.

    Example:
        >>> from ct_vlm.video_lm.loading import load_half
        >>> from ct_vlm.video_lm.tiny import tiny_config
        >>> half = load_half(tiny_config("qwen2_5_vl"), "vision")
        >>> half.language_model is None, half.visual is None
        (True, False)
    """
    family = family_of(model)
    if isinstance(model, dict):
        whole = _from_config(model, half, dtype, attn_implementation, text)
    elif isinstance(model, str) or not hasattr(model, "config"):
        whole = _from_path(str(model), half, dtype, attn_implementation)
    else:
        whole = _from_instance(model, dtype, attn_implementation)
    names = ("language_model",) if half == "vision" else family.tower
    if any(getattr(whole.model, name, None) is None for name in _kept(family.model_type, half)):
        cause = f"The {half} half of this {type(whole).__name__} is already taken."
        raise ConfigError(cause, "Pass a model of its own (`copy.deepcopy`), or the path, to every part.")
    if half == "language":
        for name in names:
            setattr(whole.model, name, None)
        return whole
    # the model keeps what it had: its language half may be taken next
    body = copy.copy(whole.model)
    body._modules = dict(whole.model._modules)
    body.language_model = None
    for name in family.tower:
        setattr(whole.model, name, None)
    return body


def config_values(model: Any) -> dict[str, Any]:
    """Return a model's config as JSON values that :func:`load_half` takes, without paths and private fields.

    Args:
        model: A model of transformers, a config dict, or a path or hub id.

    Raises:
        CheckpointError: If the path or hub id holds no config.
    """
    from transformers import AutoConfig

    if isinstance(model, dict):
        return copy.deepcopy(model)
    family_of(model)  # tells what is wrong with a path
    config = model.config if hasattr(model, "config") else AutoConfig.from_pretrained(str(model))
    values = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in values.items() if key[0] != "_" and key != "transformers_version"}


def recompute_layers(model: Any) -> None:
    """Let the backward pass recompute layers, under either name that transformers has for it.

    Args:
        model: A model of transformers.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _kept(model_type: str, half: Half) -> tuple[str, ...]:
    """Return the attributes of the body that a half needs."""
    return FAMILIES[model_type].tower if half == "vision" else ("language_model",)


def _from_config(model: dict[str, Any], half: Half, dtype: str | None, attention: str | None, text: Any) -> Any:
    """Build a model with random weights."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    values = copy.deepcopy(model)
    name = values.pop("model_type")
    values["text_config"] = {**text, **(values.get("text_config") or {})}
    try:
        config = AutoConfig.for_model(name, **values)
        left_out = _leave_out(config, half) | (_leave_words_out(config) if half == "vision" else {})
        built = AutoModelForImageTextToText.from_config(config, **_options(dtype, attention))
    except (TypeError, ValueError, ImportError) as error:
        cause = f"Cannot build a video language model of type `{name}`: {error}"
        raise ConfigError(cause, "Check its arguments against the config class of transformers.") from error
    return _with_full_config(built, half, left_out)


def _from_path(path: str, half: Half, dtype: str | None, attention: str | None) -> Any:
    """Load a pretrained model."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText
    try:
        config = AutoConfig.from_pretrained(path)
        left_out = _leave_out(config, half)
        with _quiet():
            built, found = auto.from_pretrained(
                path, config=config, output_loading_info=True, **_options(dtype or "auto", attention)
            )
    except (OSError, ValueError) as error:
        cause = f"Cannot load a video language model from `{path}`: {error}"
        raise CheckpointError(cause, "Pass a directory with config.json and weights, or a hub id.") from error
    missing = sorted(found["missing_keys"])
    if missing:
        cause = f"`{path}` lacks weights: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
        raise CheckpointError(cause, "Pass a complete checkpoint of this architecture.")
    return _with_full_config(built, half, left_out)


def _from_instance(model: Any, dtype: str | None, attention: str | None) -> Any:
    """Check a ready model."""
    import torch

    if attention is not None:
        model.set_attn_implementation(attention)
    return model if dtype is None else model.to(getattr(torch, dtype))


def _leave_out(config: Any, half: Half) -> dict[str, Any]:
    """Take the layers of the other half out of a config; return what was taken."""
    part = _other(config, half)
    names = [name for name in ("num_hidden_layers", "layer_types") if getattr(part, name, None) is not None]
    taken = {name: getattr(part, name) for name in names}
    for name, value in taken.items():
        setattr(part, name, [] if isinstance(value, list) else 0)
    return taken


def _leave_words_out(config: Any) -> dict[str, Any]:
    """Take the vocabulary out of a config, whose embeddings are the largest part of a small model."""
    taken = {name: getattr(config.text_config, name) for name in ("vocab_size", "pad_token_id")}
    config.text_config.vocab_size, config.text_config.pad_token_id = 1, None
    return taken


def _with_full_config(built: Any, half: Half, taken: dict[str, Any]) -> Any:
    """Give a model the config of the whole, which it may have copied."""
    for config in (built.config, built.model.config):
        for name, value in taken.items():
            setattr(_other(config, half), name, value)
    return built


def _other(config: Any, half: Half) -> Any:
    """Return the part of a config that describes the other half."""
    return config.text_config if half == "vision" else config.vision_config


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from listing the other half's weights, which are left out on purpose."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _options(dtype: str | None, attention: str | None) -> dict[str, Any]:
    """Return the options that are set."""
    options = {"dtype": dtype, "attn_implementation": attention}
    return {name: value for name, value in options.items() if value is not None}
