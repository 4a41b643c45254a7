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


def check_visual(visual: VisualContext, batch: int, embed_dim: int, layers: Sequence[int]) -> None:
    """Check a visual context against the batch and the decoder.

    Args:
        visual: Tokens and layer states.
        batch: Number of texts.
        embed_dim: Width that the decoder reads.
        layers: Layers that may receive states.

    Raises:
        ShapeError: If the batch size or the token width differs.
        ConfigError: If a layer has states but receives none.
    """
    if visual.tokens is None:
        return
    got = tuple(visual.tokens.shape)
    if got[0] != batch:
        cause = f"Expected visual tokens for a batch of {batch}, but got {got}."
        raise ShapeError(cause, "Repeat or select the visual tokens, one row a text.")
    if got[2] != embed_dim:
        cause = f"Expected visual tokens {embed_dim} wide, as the decoder embeds, but got {got}."
        raise ShapeError(cause, f"Project them to {embed_dim} in the connector.")
    unknown = sorted(set(visual.layer_states) - set(layers))
    if unknown:
        cause = f"`layer_states` has states for layers {unknown}, but only {list(layers)} receive states."
        raise ConfigError(cause, "Change `injection_layers` or the connector's layers.")


def check_finite(visual: VisualContext | None) -> None:
    """Check that visual tokens and layer states are finite; it waits for the device.

    Args:
        visual: Tokens and layer states, or None.

    Raises:
        ShapeError: If a value is NaN or infinite.
    """
    if visual is None or visual.tokens is None:
        return
    named = [("tokens", visual.tokens), *((f"layer_states[{k}]", v) for k, v in visual.layer_states.items())]
    for name, tensor in named:
        if not bool(tensor.isfinite().all()):
            cause = f"Visual `{name}` hold NaN or infinite values."
            raise ShapeError(cause, "Check the volume for NaN voxels and the encoder for overflow.")


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
