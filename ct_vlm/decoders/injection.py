"""Adding visual states to the hidden states of decoder layers that know nothing of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

VISUAL_KEYWORDS = ("visual_states", "visual_index", "visual_layers")
"""Keyword arguments that travel from the language model's forward to its layers."""


def add_visual_states(hidden: Tensor, states: Tensor, visual_index: Tensor) -> Tensor:
    """Add visual states at the visual positions; text positions keep their bits.

    Args:
        hidden: Hidden states.
        states: One state a visual token.
        visual_index: Which visual token stands at a position, -1 at text.

    Shape:
        - hidden: ``(B, S, E)``.
        - states: ``(B, N, E)``.
        - visual_index: ``(B, S)``.
        - Output: ``(B, S, E)``.

    Example:
        >>> import torch
        >>> from ct_vlm.decoders.injection import add_visual_states
        >>> hidden, states = torch.zeros(1, 3, 1), torch.tensor([[[5.0], [7.0]]])
        >>> add_visual_states(hidden, states, torch.tensor([[-1, 0, 1]])).flatten().tolist()
        [0.0, 5.0, 7.0]
    """
    index = visual_index.clamp(min=0)[..., None].expand(-1, -1, hidden.shape[-1])
    added = hidden + states.to(hidden.dtype).gather(1, index)
    return torch.where((visual_index >= 0)[..., None], added, hidden)


def index_of_visual(visual_mask: Tensor) -> Tensor:
    """Return which visual token stands at each position, -1 at text: ``(B, S)`` to ``(B, S)``."""
    return torch.where(visual_mask, visual_mask.long().cumsum(dim=-1) - 1, -1)


def states_of_layer(states: Tensor, layers: tuple[int, ...], layer: int) -> Tensor | None:
    """Return one layer's ``(B, N, E)`` out of ``(B, L, N, E)``, or None if it gets no states."""
    return states[:, layers.index(layer)] if layer in layers else None


class LayerInjection:
    """Forward pre-hook of one decoder layer.

    It takes the visual keywords out of the layer's arguments, so the layer and its attention never
    see them, and adds this layer's states to the hidden states. All it needs comes with the call:
    it holds no tensor, so it re-runs unchanged when gradient checkpointing recomputes a layer, and
    it can be copied and pickled.

    Args:
        layer: Index of the layer.
    """

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.reached = False

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the layer's arguments with the states added."""
        if "visual_states" not in kwargs:
            return None
        self.reached = True
        rest = {name: value for name, value in kwargs.items() if name not in VISUAL_KEYWORDS}
        states = states_of_layer(kwargs["visual_states"], kwargs["visual_layers"], self.layer)
        if states is None:
            return args, rest
        if args:
            return (add_visual_states(args[0], states, kwargs["visual_index"]), *args[1:]), rest
        rest["hidden_states"] = add_visual_states(rest["hidden_states"], states, kwargs["visual_index"])
        return args, rest


class RowSelection:
    """Forward pre-hook of the output head that keeps the rows that are needed.

    A vocabulary projection of every position costs more than a small decoder itself; the loss needs
    it at the target tokens only. Where the loss reads the hidden states itself, the head gets none.
    """

    def __init__(self) -> None:
        self.rows: Tensor | None = None
        self.takes = False
        self.taken: Tensor | None = None
        self.instead: Tensor | None = None

    def __call__(self, _module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Return the wanted rows of ``(B, S, E)`` as ``(1, M, E)``, or what stands in for rows that are taken."""
        if self.rows is None:
            return None
        chosen = args[0].flatten(0, 1).index_select(0, self.rows)
        if self.takes:
            self.taken, chosen = chosen, chosen[:0] if self.instead is None else self.instead
        return (chosen[None], *args[1:])

    @contextmanager
    def taking(self, instead: Tensor | None = None) -> Iterator[None]:
        """Take the wanted rows for the loss; they are in ``taken`` after the forward pass.

        Args:
            instead: What the head gets in their place; None means nothing.

        Shape:
            - instead: ``(K, E)``.
        """
        self.takes, self.instead = True, instead
        try:
            yield
        finally:
            self.takes, self.taken, self.instead = False, None, None
