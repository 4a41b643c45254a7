"""Building a transformers causal LM from a path, a config or an instance, and preparing it."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

from torch import nn

from ct_vlm.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTENTION_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "c_attn", "query_key_value", "qkv_proj")
"""Names under which language models keep their attention projections."""

_LIST_NAMES = ("layers", "h", "blocks", "block")


def build_language_model(
    model: Any,
    tokenizer: Any,
    *,
    dtype: str | None = None,
    attn_implementation: str | None = None,
    grow: bool = False,
) -> Any:
    """Return a transformers causal LM.

    Args:
        model: A path or hub id (weights are loaded), a config dict with ``model_type`` (weights are
            random; ids of special tokens and the vocabulary size come from the tokenizer unless the
            dict names them), or a ``PreTrainedModel``.
        tokenizer: The tokenizer whose ids the model has to embed.
        dtype: Parameter dtype such as ``"bfloat16"``; None keeps that of the weights or the config.
        attn_implementation: ``"sdpa"``, ``"eager"``, ``"flash_attention_2"``...; None lets
            transformers choose.
        grow: Whether a model that embeds too few tokens gets new rows, drawn at random.

    Raises:
        ConfigError: If the config names no known causal LM, or the vocabulary is too small.
        CheckpointError: If the path or hub id holds no model.
    """
    # registers the small decoder with the auto classes
    importlib.import_module("ct_vlm.decoders.report_decoder")
    if isinstance(model, dict):
        lm = _from_config_dict(model, tokenizer, dtype, attn_implementation)
    elif isinstance(model, nn.Module):
        lm = _from_instance(model, dtype, attn_implementation)
    else:
        lm = _from_path(str(model), dtype, attn_implementation)
    fit_vocabulary(lm, tokenizer, grow=grow)
    return lm


def fit_vocabulary(lm: Any, tokenizer: Any, *, grow: bool) -> None:
    """Check that a model embeds every token of a tokenizer.

    Args:
        lm: A transformers language model.
        tokenizer: The tokenizer.
        grow: Whether a model that embeds too few gets new rows, drawn at random.

    Raises:
        ConfigError: If the vocabulary is too small.
    """
    if grow and len(tokenizer) > lm.get_input_embeddings().num_embeddings:
        lm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    rows = lm.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        cause = f"The tokenizer has {len(tokenizer)} tokens, but the model embeds {rows}."
        raise ConfigError(cause, "Call `model.resize_token_embeddings(len(tokenizer))` and pass the model itself.")


def config_of(lm: Any) -> dict[str, Any]:
    """Return the model's config as JSON values that :func:`build_language_model` takes.

    Paths and private fields are left out, so that the config stands alone.
    """
    values = json.loads(lm.config.to_json_string(use_diff=False))
    return {
        name: value for name, value in values.items() if not name.startswith("_") and name != "transformers_version"
    }


def find_layers(lm: Any) -> nn.ModuleList:
    """Return the decoder layers of a causal LM.

    Raises:
        ConfigError: If the model keeps its layers under no known name.
    """
    body = lm.get_decoder()
    for name in _LIST_NAMES:
        layers = getattr(body, name, None)
        if isinstance(layers, nn.ModuleList):
            return layers
    cause = f"Found no list of decoder layers in {type(lm).__name__}."
    raise ConfigError(cause, f"Its body should hold them as one of {', '.join(_LIST_NAMES)}.")


def add_lora(lm: Any, lora: Mapping[str, Any]) -> None:
    """Add LoRA adapters in place; everything else in the model is frozen.

    Args:
        lm: A transformers causal LM.
        lora: Arguments of ``peft.LoraConfig`` (``r``, ``lora_alpha``, ``lora_dropout``,
            ``target_modules``...). Without ``target_modules``, the attention projections are taken.

    Raises:
        ConfigError: If peft does not know an argument, or no target module is found.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    settings = dict(lora)
    if settings.get("target_modules") is None:
        found = {name.rsplit(".", 1)[-1] for name, _ in lm.named_modules()}
        settings["target_modules"] = [name for name in ATTENTION_PROJECTIONS if name in found]
    # GPT-2 keeps its projections transposed, in a class of its own
    settings.setdefault("fan_in_fan_out", any(isinstance(module, Conv1D) for module in lm.modules()))
    try:
        inject_adapter_in_model(LoraConfig(**settings), lm)
    except (TypeError, ValueError) as error:
        cause = f"Cannot add LoRA with {settings}: {error}."
        raise ConfigError(cause, "Check the names against `peft.LoraConfig` and the model's modules.") from error


def enable_checkpointing(lm: Any) -> None:
    """Turn activation checkpointing on, whatever name transformers has for it.

    transformers 5.23 renamed the method. The non-reentrant kind is asked for, because visual states
    reach the layers as keyword arguments, whose gradients the reentrant kind drops.
    """
    enable = getattr(lm, "activation_checkpointing_enable", None) or lm.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def stop_tokens(lm: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a text: those of the model's generation config and the tokenizer's."""
    ids = lm.generation_config.eos_token_id if lm.generation_config is not None else None
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return sorted({int(i) for i in [*ids, *own]})


def _from_config_dict(model: dict[str, Any], tokenizer: Any, dtype: str | None, attention: str | None) -> Any:
    """Build a model with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(model)
    name = values.pop("model_type", None)
    if name is None:
        cause = f"The model config has no `model_type`; its keys are {sorted(values)}."
        raise ConfigError(cause, "Name it, e.g. {'model_type': 'llama', 'hidden_size': 64, ...}.")
    for key, value in token_settings(tokenizer).items():
        values.setdefault(key, value)
    options = {"dtype": dtype, "attn_implementation": attention}
    given = {key: value for key, value in options.items() if value is not None}
    try:
        config = AutoConfig.for_model(name, **values)
        if type(config) in AutoModelForCausalLM._model_mapping:
            return AutoModelForCausalLM.from_config(config, **given)
    except (TypeError, ValueError, ImportError) as error:
        cause = f"Cannot build a causal LM of type `{name}`: {error}"
        raise ConfigError(cause, "Check its arguments against the config class of transformers.") from error
    cause = f"`{name}` is no causal LM."
    raise ConfigError(cause, "Use a `model_type` that AutoModelForCausalLM knows, such as 'llama' or 'qwen3'.")


def token_settings(tokenizer: Any) -> dict[str, Any]:
    """Return the config fields that follow from the tokenizer."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _from_path(path: str, dtype: str | None, attention: str | None) -> Any:
    """Load a pretrained model."""
    from transformers import AutoModelForCausalLM

    options = {} if attention is None else {"attn_implementation": attention}
    try:
        return AutoModelForCausalLM.from_pretrained(path, dtype="auto" if dtype is None else dtype, **options)
    except (OSError, ValueError) as error:
        cause = f"Cannot load a causal LM from `{path}`: {error}"
        raise CheckpointError(cause, "Pass a directory with config.json and weights, or a hub id.") from error


def _from_instance(model: nn.Module, dtype: str | None, attention: str | None) -> Any:
    """Check a ready model."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedModel

    if not isinstance(model, PreTrainedModel) or type(model.config) not in AutoModelForCausalLM._model_mapping:
        cause = f"{type(model).__name__} is no causal LM that AutoModelForCausalLM could rebuild."
        raise ConfigError(cause, "Register its config and class with the auto classes of transformers.")
    if attention is not None:
        model.set_attn_implementation(attention)
    return model if dtype is None else model.to(getattr(torch, dtype))
