"""What passes between encoder, connectors and decoder: ``Features`` and ``VisualContext``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
        shared: Where connectors keep what several of them work out of these features, such as R²
            pooling; None keeps nothing. A model sets it for one pass.

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
    shared: dict[Any, Any] | None = field(default=None, repr=False, compare=False)

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
    """What a decoder reads: prompt tokens, per-layer states, memory and text.

    Args:
        tokens: Visual tokens placed in the prompt.
        layer_states: Decoder layer index to the states injected there, aligned with ``tokens``
            (same N). They are added to the hidden states at the visual positions.
        text: One string a sample, spliced into the prompt (e.g. patient attributes).
        memory: Tokens that cross-attention of decoder layers reads, at every step. Without it,
            cross-attention reads ``tokens``.
        memory_mask: True where ``memory`` is valid; None means everywhere.
        grid: Steps, rows and columns of the grid that ``tokens`` stand on, for decoders that give them
            positions by it; None where they stand on none.

    Shape:
        - tokens: ``(B, N, E)``.
        - layer_states: ``(B, N, E)`` each.
        - memory: ``(B, M, C)``; memory_mask: ``(B, M)``, bool.

    Raises:
        ShapeError: If layer states or the grid do not align with the tokens, or the mask with the memory.

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
    memory: Tensor | None = None
    memory_mask: Tensor | None = None
    grid: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        """Check the alignment of tokens, layer states, grid, memory and mask."""
        for name, value in (("tokens", self.tokens), ("memory", self.memory)):
            if value is not None and value.ndim != 3:
                cause = f"Expected `{name}` with three axes (batch, token, channel), but got {tuple(value.shape)}."
                raise ShapeError(cause, "Add the missing batch or token axis.")
        for layer, states in self.layer_states.items():
            if self.tokens is None or states.shape != self.tokens.shape:
                tokens = None if self.tokens is None else tuple(self.tokens.shape)
                cause = f"`layer_states[{layer}]` {tuple(states.shape)} does not align with `tokens` {tokens}."
                raise ShapeError(cause, "Give every injected layer one state for each visual token.")
        if self.memory_mask is not None and (self.memory is None or self.memory_mask.shape != self.memory.shape[:2]):
            memory = None if self.memory is None else tuple(self.memory.shape)
            cause = f"`memory_mask` {tuple(self.memory_mask.shape)} does not align with `memory` {memory}."
            raise ShapeError(cause, "Give every memory token one flag.")
        if self.grid is not None and math.prod(self.grid) != self.num_tokens:
            cause = f"{self.num_tokens} visual tokens do not fill the grid {tuple(self.grid)}."
            raise ShapeError(cause, "Leave `grid` out where tokens stand on none.")

    @classmethod
    def concat(cls, contexts: Sequence[VisualContext]) -> VisualContext:
        """Concatenate contexts of several connectors along the token axis.

        A context without states for a layer contributes zeros there, which add nothing. Memories are
        concatenated among themselves: a context without memory contributes none. Tokens of several
        contexts stand on no common grid.
        """
        with_tokens = [c for c in contexts if c.tokens is not None]
        tokens = torch.cat([c.tokens for c in with_tokens if c.tokens is not None], dim=1) if with_tokens else None
        states: dict[int, Tensor] = {}
        for layer in sorted({layer for c in with_tokens for layer in c.layer_states}):
            parts = [c.layer_states.get(layer, torch.zeros_like(c.tokens)) for c in with_tokens if c.tokens is not None]
            states[layer] = torch.cat(parts, dim=1)
        texts = [c.text for c in contexts if c.text is not None]
        text = [" ".join(parts) for parts in zip(*texts, strict=True)] if texts else None
        grid = with_tokens[0].grid if len(with_tokens) == 1 else None
        return cls(tokens, states, text, *_concat_memories(contexts), grid=grid)

    @property
    def num_tokens(self) -> int:
        """Number of visual tokens N (0 without tokens)."""
        return 0 if self.tokens is None else self.tokens.shape[1]

    def select(self, rows: Sequence[int]) -> VisualContext:
        """Return the context of chosen samples, in that order; a sample may be chosen several times.

        Args:
            rows: Samples, e.g. ``[0, 0, 1]`` for two texts about the first one.

        Example:
            >>> import torch
            >>> from ct_vlm.features import VisualContext
            >>> VisualContext(torch.zeros(2, 3, 8), text=["a", "b"]).select([1, 1, 0]).text
            ['b', 'b', 'a']
        """

        def chosen(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[torch.tensor(rows, device=values.device, dtype=torch.long)]

        states = {layer: values[list(rows)] for layer, values in self.layer_states.items()}
        text = None if self.text is None else [self.text[row] for row in rows]
        memory, mask = chosen(self.memory), chosen(self.memory_mask)
        return VisualContext(chosen(self.tokens), states, text, memory, mask, self.grid)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> VisualContext:
        """Return the context with its tensors cast or moved."""
        tokens = None if self.tokens is None else self.tokens.to(dtype=dtype, device=device)
        states = {k: v.to(dtype=dtype, device=device) for k, v in self.layer_states.items()}
        memory = None if self.memory is None else self.memory.to(dtype=dtype, device=device)
        mask = None if self.memory_mask is None else self.memory_mask.to(device=device)
        return VisualContext(tokens, states, self.text, memory, mask, self.grid)


def _concat_memories(contexts: Sequence[VisualContext]) -> tuple[Tensor | None, Tensor | None]:
    """Return the memories of contexts as one, and its mask if any of them has one."""
    pairs = [(c.memory, c.memory_mask) for c in contexts if c.memory is not None]
    if not pairs:
        return None, None
    memory = torch.cat([part for part, _ in pairs], dim=1)
    if all(mask is None for _, mask in pairs):
        return memory, None
    masks = [torch.ones_like(part[..., 0], dtype=torch.bool) if mask is None else mask for part, mask in pairs]
    return memory, torch.cat(masks, dim=1)
