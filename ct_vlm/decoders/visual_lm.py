"""Gives a transformers causal LM a forward that takes visual states, leaving its weights alone.

The class of the model is swapped for a subclass with three more arguments. They reach the decoder
layers as keyword arguments, and a pre-hook of each layer uses them up. State-dict keys stay those
of transformers, so pretrained weights and adapters load.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.decoders.cross_attention import MEMORY_KEYWORDS, MemoryReading
from ct_vlm.decoders.injection import LayerInjection, RowSelection, index_of_visual
from ct_vlm.decoders.masks import as_additive, hybrid_attention_mask
from ct_vlm.errors import ConfigError
from ct_vlm.ops.prefix_attention import PrefixLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

_PROMPT_ARGUMENTS = ("visual_states", "visual_mask", "visual_layers", "visual_length", "logit_rows")
_EXTRA_ARGUMENTS = (*_PROMPT_ARGUMENTS, *MEMORY_KEYWORDS)
_MASKED_ATTENTION = {"sdpa", "eager"}


@dataclass
class VisualSettings:
    """What the swapped class needs, stored on the model as ``lm.visual_settings``.

    Args:
        hybrid_mask: Whether visual tokens attend to each other in both directions.
        rows: The hook on the output head.
        hooks: The hooks on the decoder layers; none where the model injects by itself.
        readers: The cross-attention hooks on the decoder layers; none without cross-attention.
        verified: Whether the visual states were seen to reach the layers.
        reading_verified: Whether the memory was seen to reach them.
        plain_head: Whether the logits are a plain product; None before it was tried.
        packs: Whether texts behind one shared prefix come out as texts of their own; None before it was tried.
    """

    hybrid_mask: bool = False
    rows: RowSelection = field(default_factory=RowSelection)
    hooks: list[LayerInjection] = field(default_factory=list)
    readers: list[MemoryReading] = field(default_factory=list)
    verified: bool = False
    reading_verified: bool = False
    plain_head: bool | None = None
    packs: bool | None = None


class VisualLanguageModel:
    """Mixin put in front of a transformers causal LM class by :func:`make_visual`."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle through the transformers class, as the swapped one has no import path."""
        reduced = super().__reduce_ex__(protocol)
        return (_new_visual, (type(self).__mro__[2],), *reduced[2:])


def make_visual(lm: Any, layers: nn.ModuleList, *, hybrid_mask: bool, reads_memory: bool = False) -> None:
    """Swap the model's class and register the hooks, in place.

    Args:
        lm: A transformers causal LM.
        layers: Its decoder layers.
        hybrid_mask: Whether visual tokens attend to each other in both directions.
        reads_memory: Whether layers are to read a memory.

    Raises:
        ConfigError: If the model is in use by another decoder, or its attention takes no mask.
    """
    if isinstance(lm, VisualLanguageModel):
        cause = f"This {type(lm).__name__} already belongs to a decoder."
        raise ConfigError(cause, "Pass a model of its own (`copy.deepcopy`) to every decoder.")
    implementation = lm.config._attn_implementation
    if hybrid_mask and implementation not in _MASKED_ATTENTION:
        cause = f"The hybrid mask does not work with attention `{implementation}`."
        raise ConfigError(cause, "Pass attn_implementation='sdpa', or hybrid_mask=False.")
    settings = VisualSettings(hybrid_mask=hybrid_mask)
    if not getattr(lm, "injects_visual_states", False):
        for number, layer in enumerate(layers):
            hook = LayerInjection(number)
            layer.register_forward_pre_hook(hook, with_kwargs=True)
            settings.hooks.append(hook)
    for number, layer in enumerate(layers if reads_memory else []):
        reader = MemoryReading(number)
        reader.register(layer)
        settings.readers.append(reader)
    head = lm.get_output_embeddings()
    head.register_forward_pre_hook(settings.rows)
    base: Any = type(lm)
    lm.__class__ = _visual_class(base)
    lm.visual_settings = settings


def visual_forward(lm: Any, forward: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Run the model's own forward with visual states, the hybrid mask and selected logit rows.

    Both concern the prompt only: in a decode step, the keys and values of the visual positions are
    in the cache already. A memory goes to the layers in every step.
    """
    states, mask, layers, length, rows = (kwargs.pop(name, None) for name in _PROMPT_ARGUMENTS)
    settings: VisualSettings = lm.visual_settings
    injects, reads = False, kwargs.get("memory_states") is not None
    if not reads:
        kwargs = {name: value for name, value in kwargs.items() if name not in MEMORY_KEYWORDS}
    if mask is not None and _past_length(kwargs) == 0:
        mask = _grown(mask, kwargs)
        injects = states is not None and len(layers) > 0
        if injects:
            kwargs.update(visual_states=states, visual_index=index_of_visual(mask), visual_layers=tuple(layers))
        if _is_complete(kwargs.get("attention_mask")):
            pass  # whoever made it has thought of the visual tokens
        elif settings.hybrid_mask and length is not None and getattr(lm, "attends_by_layout", False):
            starts = mask.to(torch.int8).argmax(dim=1)
            kwargs["prefix"] = PrefixLayout(starts, length, mask.shape[1], kwargs.get("attention_mask"))
        elif settings.hybrid_mask:
            kwargs["attention_mask"] = _hybrid(lm, mask, kwargs)
    settings.rows.rows = rows
    try:
        output = forward(lm, **kwargs)
    finally:
        settings.rows.rows = None
    if injects and not settings.verified:
        _verify(lm, settings.hooks)
        settings.verified = True
    if reads and not settings.reading_verified:
        _verify(lm, settings.readers)
        settings.reading_verified = True
    return output


@functools.cache
def _visual_class(base: Any) -> Any:
    """Return the subclass of a transformers class, the same one for every model of that class."""
    names = [name for name in inspect.signature(base.forward).parameters if name != "self"]

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return visual_forward(self, base.forward, dict(zip(names, args, strict=False)) | kwargs)

    # generate() refuses keyword arguments that the signature does not name
    forward.__signature__ = _extended(inspect.signature(base.forward))  # type: ignore[attr-defined]
    body = {"forward": forward, "__module__": base.__module__, "__qualname__": base.__qualname__}
    return type(base.__name__, (VisualLanguageModel, base), body)


def _new_visual(base: Any) -> Any:
    """Make an empty model for ``copy`` and ``pickle`` to fill."""
    cls = _visual_class(base)
    return cls.__new__(cls)


def _extended(signature: inspect.Signature) -> inspect.Signature:
    """Add the visual arguments to a signature."""
    parameters = list(signature.parameters.values())
    last = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    extra = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None) for n in _EXTRA_ARGUMENTS]
    return signature.replace(parameters=[p for p in parameters if p not in last] + extra + last)


def _past_length(kwargs: dict[str, Any]) -> int:
    """Return how many positions the cache holds."""
    cache = kwargs.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def _grown(mask: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Extend the visual mask over tokens generated without a cache."""
    inputs = kwargs.get("inputs_embeds")
    inputs = kwargs["input_ids"] if inputs is None else inputs
    return torch.nn.functional.pad(mask, (0, inputs.shape[1] - mask.shape[1]), value=False)


def takes_mask(lm: Any, length: int) -> bool:
    """Tell whether a model's attention takes a mask of queries and keys for that many tokens.

    Args:
        lm: A transformers causal LM.
        length: Tokens of a sequence; layers that see a window only would see all of a longer one.
    """
    return lm.config._attn_implementation in _MASKED_ATTENTION and _short_window(lm, length) is None


def _short_window(lm: Any, length: int) -> int | None:
    """Return the attention window of a model if a sequence is longer, else None."""
    config = lm.config.get_text_config()
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    return window if window is not None and "sliding_attention" in kinds and length > window else None


def _is_complete(mask: Any) -> bool:
    """Tell whether a mask is of queries and keys rather than of tokens."""
    return isinstance(mask, torch.Tensor) and mask.ndim == 4


def _hybrid(lm: Any, mask: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Return the four-dimensional mask in the form that the model's attention takes."""
    window = _short_window(lm, mask.shape[1])
    if window is not None:
        cause = f"The hybrid mask covers {mask.shape[1]} tokens, but the model's attention window is {window}."
        raise ConfigError(cause, "Use fewer visual tokens, or hybrid_mask=False.")
    attention = kwargs.get("attention_mask")
    keep = hybrid_attention_mask(mask, torch.ones_like(mask) if attention is None else attention)
    return as_additive(keep, lm.dtype) if lm.config._attn_implementation == "eager" else keep


def _verify(lm: Any, hooks: Sequence[LayerInjection | MemoryReading]) -> None:
    """Refuse a model whose layers never got what their hooks wait for."""
    missed = [hook.layer for hook in hooks if not hook.reached]
    if missed:
        cause = f"{type(lm).__name__} passes no keyword arguments to its layers {missed}, so nothing was injected."
        raise ConfigError(cause, "Use visual tokens without layer states or cross-attention with this model.")
