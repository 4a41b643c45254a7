"""What passes between encoder, connectors and decoder: ``Features`` and ``VisualContext``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass
class Features:
    """Token maps of an encoder, from fine to coarse.

    Args:
        levels: One token map a level.
        grids: Size ``(D, H, W)`` of each level's grid; its product is that level's ``N_l``.
        slice_position_mm: Position of each slice along the body axis in mm, for slice encoders.
        padding_mask: True where a slice (or token of the coarsest level) is padding.

    Shape:
        - levels: ``(B, N_l, C_l)`` each.
        - slice_position_mm: ``(B, D)``.
        - padding_mask: ``(B, D)``.

    Raises:
        ShapeError: If a level's token count is not the product of its grid.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> features = Features([torch.zeros(2, 8, 4)], [(2, 2, 2)])
        >>> features.map(0).shape
        torch.Size([2, 4, 2, 2, 2])
    """

    levels: list[Tensor]
    grids: list[tuple[int, int, int]]
    slice_position_mm: Tensor | None = None
    padding_mask: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that every level fits its grid."""
        if len(self.levels) != len(self.grids):
            cause = f"Expected one grid a level, but got {len(self.levels)} levels and {len(self.grids)} grids."
            raise ShapeError(cause, "Pass `grids` with one (D, H, W) for each level.")
        for index, (tokens, (d, h, w)) in enumerate(zip(self.levels, self.grids, strict=True)):
            if tokens.ndim != 3 or tokens.shape[1] != d * h * w:
                shape = tuple(tokens.shape)
                cause = f"Expected level {index} as (B, {d * h * w}, C) for grid {(d, h, w)}, but got {shape}."
                raise ShapeError(cause, "Flatten the (D, H, W) axes in order into one token axis.")

    @classmethod
    def from_maps(cls, maps: Sequence[Tensor]) -> Features:
        """Build features from feature maps ``(B, C_l, D_l, H_l, W_l)``, fine to coarse."""
        levels = [m.flatten(2).transpose(1, 2) for m in maps]
        return cls(levels, [(m.shape[2], m.shape[3], m.shape[4]) for m in maps])

    def map(self, level: int) -> Tensor:
        """Return one level as a feature map ``(B, C, D, H, W)``."""
        tokens = self.levels[level]
        return tokens.transpose(1, 2).unflatten(2, self.grids[level])

    def detach(self) -> Features:
        """Return the same features cut from the autograd graph."""
        levels = [tokens.detach() for tokens in self.levels]
        return Features(levels, list(self.grids), self.slice_position_mm, self.padding_mask)


@dataclass
class VisualContext:
    """What a decoder reads: prompt tokens, per-layer states and text.

    Args:
        tokens: Visual tokens placed in the prompt.
        layer_states: Decoder layer index to the states injected there, aligned with ``tokens``
            (same N). They are added to the hidden states at the visual positions.
        text: One string a sample, spliced into the prompt (e.g. patient attributes).

    Shape:
        - tokens: ``(B, N, E)``.
        - layer_states: ``(B, N, E)`` each.

    Raises:
        ShapeError: If layer states do not align with the tokens.

    Example:
        >>> import torch
        >>> from ct_vlm.features import VisualContext
        >>> a = VisualContext(tokens=torch.zeros(1, 3, 8))
        >>> b = VisualContext(tokens=torch.ones(1, 2, 8), text=["volume 4.5 L"])
        >>> VisualContext.concat([a, b]).tokens.shape
        torch.Size([1, 5, 8])
    """

    tokens: Tensor | None = None
    layer_states: dict[int, Tensor] = field(default_factory=dict)
    text: list[str] | None = None

    def __post_init__(self) -> None:
        """Check the alignment of tokens and layer states."""
        if self.tokens is not None and self.tokens.ndim != 3:
            cause = f"Expected `tokens` as (B, N, E), but got {tuple(self.tokens.shape)}."
            raise ShapeError(cause, "Add the missing batch or token axis.")
        for layer, states in self.layer_states.items():
            if self.tokens is None or states.shape != self.tokens.shape:
                tokens = None if self.tokens is None else tuple(self.tokens.shape)
                cause = f"`layer_states[{layer}]` {tuple(states.shape)} does not align with `tokens` {tokens}."
                raise ShapeError(cause, "Give every injected layer one state for each visual token.")

    @classmethod
    def concat(cls, contexts: Sequence[VisualContext]) -> VisualContext:
        """Concatenate contexts of several connectors along the token axis.

        A context without states for a layer contributes zeros there, which add nothing.
        """
        with_tokens = [c for c in contexts if c.tokens is not None]
        tokens = torch.cat([c.tokens for c in with_tokens if c.tokens is not None], dim=1) if with_tokens else None
        states: dict[int, Tensor] = {}
        for layer in sorted({layer for c in with_tokens for layer in c.layer_states}):
            parts = [c.layer_states.get(layer, torch.zeros_like(c.tokens)) for c in with_tokens if c.tokens is not None]
            states[layer] = torch.cat(parts, dim=1)
        texts = [c.text for c in contexts if c.text is not None]
        text = [" ".join(parts) for parts in zip(*texts, strict=True)] if texts else None
        return cls(tokens, states, text)

    @property
    def num_tokens(self) -> int:
        """Number of visual tokens N (0 without tokens)."""
        return 0 if self.tokens is None else self.tokens.shape[1]

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> VisualContext:
        """Return the context with its tensors cast or moved."""
        tokens = None if self.tokens is None else self.tokens.to(dtype=dtype, device=device)
        states = {k: v.to(dtype=dtype, device=device) for k, v in self.layer_states.items()}
        return VisualContext(tokens, states, self.text)
