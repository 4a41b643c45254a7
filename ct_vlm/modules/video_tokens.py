"""Tokens of a video language model's own tower, as its own language model reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.features import Features


class VideoTokens(Connector):
    """Hand tokens on as they are, with their grid; levels before the last go into the LM's first layers.

    A level before the last is what transformers adds behind the first, second, ... layer of Qwen3-VL:
    to the input of the one that follows.

    Args:
        level_dims: Channels of the encoder's levels; None takes any.

    Shape:
        - Input: :class:`~ct_vlm.features.Features` of ``(B, N, E)``.
        - Output: :class:`~ct_vlm.features.VisualContext` with ``tokens (B, N, E)`` and their grid.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import VideoTokens
        >>> context = VideoTokens()(Features([torch.zeros(1, 8, 4)] * 2, [(2, 2, 2)] * 2))
        >>> context.grid, sorted(context.layer_states)
        ((2, 2, 2), [1])
    """

    def __init__(self, level_dims: Sequence[int] | None = None) -> None:
        super().__init__()
        self.level_dims = None if level_dims is None else tuple(level_dims)

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return tokens, grid and states."""
        states = dict(enumerate(features.levels[:-1], start=1))
        return VisualContext(features.levels[-1], states, grid=features.grids[-1])
