"""Checks at the border of a decoder, so that a wrong input is named where it comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.features import VisualContext


def check_text(input_ids: Tensor, labels: Tensor | None, attention_mask: Tensor) -> None:
    """Check ids, labels and mask of a batch.

    Args:
        input_ids: Token ids.
        labels: Target ids, or None.
        attention_mask: 1 at tokens, 0 at padding.

    Shape:
        - input_ids, labels, attention_mask: ``(B, T)``.

    Raises:
        ShapeError: If the ids are not ``(B, T)`` integers, or the others have another shape.
    """
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        cause = f"Expected integer `input_ids` (B, T), but got {input_ids.dtype} {tuple(input_ids.shape)}."
        raise ShapeError(cause, "Use the output of `encode`.")
    for name, value in (("labels", labels), ("attention_mask", attention_mask)):
        if value is not None and value.shape != input_ids.shape:
            cause = f"Expected `{name}` like `input_ids` {tuple(input_ids.shape)}, but got {tuple(value.shape)}."
            raise ShapeError(cause, "Leave out visual positions: the decoder adds them.")


def check_layers(layers: Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    """Return the layers that may receive states.

    Args:
        layers: Layer indices; None means all.
        num_layers: Number of decoder layers.

    Returns:
        The indices, in the order given.

    Raises:
        ConfigError: If a layer does not exist or is named twice.
    """
    chosen = tuple(range(num_layers)) if layers is None else tuple(layers)
    wrong = [layer for layer in chosen if not 0 <= layer < num_layers]
    if wrong or len(set(chosen)) != len(chosen):
        cause = f"Expected distinct `injection_layers` from 0 to {num_layers - 1}, but got {list(chosen)}."
        raise ConfigError(cause, "Count layers from 0; negative indices are not used.")
    return chosen


def check_visual(
    visual: VisualContext, batch: int, embed_dim: int, layers: Sequence[int], memory_dim: int | None = None
) -> None:
    """Check a visual context against the batch and the decoder.

    Args:
        visual: Tokens, layer states and memory.
        batch: Number of texts.
        embed_dim: Width that the decoder reads.
        layers: Layers that may receive states.
        memory_dim: Width of the memory that cross-attention reads; None without cross-attention.

    Raises:
        ShapeError: If the batch size, the token width or the memory's width differs.
        ConfigError: If a layer has states but receives none, or nothing reads the memory.
    """
    for name, value in (("tokens", visual.tokens), ("memory", visual.memory)):
        if value is not None and value.shape[0] != batch:
            cause = f"Expected visual {name} for a batch of {batch}, but got {tuple(value.shape)}."
            raise ShapeError(cause, f"Repeat or select the visual {name}, one row a text.")
    if visual.tokens is not None and visual.tokens.shape[2] != embed_dim:
        cause = f"Expected visual tokens {embed_dim} wide, as the decoder embeds, but got {tuple(visual.tokens.shape)}."
        raise ShapeError(cause, f"Project them to {embed_dim} in the connector.")
    unknown = sorted(set(visual.layer_states) - set(layers))
    if unknown:
        cause = f"`layer_states` has states for layers {unknown}, but only {list(layers)} receive states."
        raise ConfigError(cause, "Change `injection_layers` or the connector's layers.")
    _check_memory(visual, memory_dim)


def _check_memory(visual: VisualContext, memory_dim: int | None) -> None:
    """Check what cross-attention would read."""
    if memory_dim is None:
        if visual.memory is not None:
            msg = "The visual context has a `memory`, but the decoder has no `cross_attention` to read it."
            raise ConfigError(msg, "Build the decoder with `cross_attention=CrossAttentionAdapters(...)`.")
        return
    memory = visual.tokens if visual.memory is None else visual.memory
    if memory is not None and memory.shape[2] != memory_dim:
        cause = f"Cross-attention reads a memory {memory_dim} wide, but got {tuple(memory.shape)}."
        raise ShapeError(cause, f"Build the adapters with memory_dim={memory.shape[2]}.")


def check_finite(visual: VisualContext | None) -> None:
    """Check that visual tokens, layer states and memory are finite; it waits for the device.

    Args:
        visual: Tokens, layer states and memory, or None.

    Raises:
        ShapeError: If a value is NaN or infinite.
    """
    if visual is None:
        return
    states = [(f"layer_states[{k}]", v) for k, v in visual.layer_states.items()]
    for name, tensor in [("tokens", visual.tokens), *states, ("memory", _valid_memory(visual))]:
        if tensor is not None and not bool(tensor.isfinite().all()):
            cause = f"Visual `{name}` hold NaN or infinite values."
            raise ShapeError(cause, "Check the volume for NaN voxels and the encoder for overflow.")


def _valid_memory(visual: VisualContext) -> Tensor | None:
    """Return the memory tokens that are read: what stands at masked places is nobody's."""
    if visual.memory is None or visual.memory_mask is None:
        return visual.memory
    return visual.memory[visual.memory_mask]


def check_length(length: int, config: Any) -> None:
    """Check that a sequence fits the model's positions.

    Args:
        length: Visual and text tokens together.
        config: Config of the language model.

    Raises:
        ShapeError: If it is longer.
    """
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and length > limit:
        cause = f"The sequence needs {length} positions, but the language model has {limit}."
        raise ShapeError(cause, "Shorten the text, use fewer visual tokens or fewer `max_new_tokens`.")
