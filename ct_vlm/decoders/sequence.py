"""Where visual tokens and text tokens stand in one sequence, without a host synchronisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ct_vlm.decoders.encoding import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Layout:
    """Places of N visual and T text tokens in a sequence of S = N + T.

    Args:
        visual_mask: True at visual tokens.
        source: Index into the visual tokens where ``visual_mask`` holds, else into the text tokens.
        text_place: Place of every text token in the sequence.

    Shape:
        - visual_mask, source: ``(B, S)``.
        - text_place: ``(B, T)``.
    """

    visual_mask: Tensor
    source: Tensor
    text_place: Tensor

    def merge(self, visual: Tensor, text: Tensor) -> Tensor:
        """Interleave visual ``(B, N, E)`` and text ``(B, T, E)`` into ``(B, S, E)``."""
        both = torch.cat([visual, text], dim=1)
        index = torch.where(self.visual_mask, self.source, self.source + visual.shape[1])
        return both.gather(1, index[..., None].expand(-1, -1, both.shape[-1]))

    def spread(self, values: Tensor, fill: int) -> Tensor:
        """Move text values ``(B, T)`` to their places in ``(B, S)``; visual places get ``fill``."""
        index = torch.where(self.visual_mask, 0, self.source)
        return values.gather(1, index).masked_fill(self.visual_mask, fill)


def make_layout(num_visual: int, visual_position: Tensor, text_length: int) -> Layout:
    """Lay out N visual tokens before the text token at ``visual_position`` of each sample.

    Args:
        num_visual: N, the number of visual tokens.
        visual_position: Index of the text token they go before, 0 to T.
        text_length: T, the number of text tokens.

    Shape:
        - visual_position: ``(B,)``.

    Example:
        >>> import torch
        >>> from ct_vlm.decoders.sequence import make_layout
        >>> make_layout(2, torch.tensor([0, 1]), 2).visual_mask.int()
        tensor([[1, 1, 0, 0],
                [0, 1, 1, 0]], dtype=torch.int32)
    """
    start = visual_position[:, None]
    place = torch.arange(num_visual + text_length, device=visual_position.device)[None]
    visual_mask = (place >= start) & (place < start + num_visual)
    text_source = torch.where(place < start, place, place - num_visual)
    source = torch.where(visual_mask, place - start, text_source)
    text = torch.arange(text_length, device=visual_position.device)[None]
    return Layout(visual_mask, source, torch.where(text < start, text, text + num_visual))


def first_token(attention_mask: Tensor) -> Tensor:
    """Return the index of the first real token of each sample, ``(B, T)`` to ``(B,)``."""
    return attention_mask.to(torch.int8).argmax(dim=1)


def positions_from_mask(attention_mask: Tensor) -> Tensor:
    """Return position ids that count real tokens only, so that padding on the left moves nothing."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def label_rows(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which hidden states predict a label, and those labels.

    Args:
        labels: Labels of the whole sequence, not shifted.

    Returns:
        Flat indices into ``B * S`` rows, and the label that each row has to predict.

    Shape:
        - labels: ``(B, S)``.
        - Output: ``(M,)`` and ``(M,)``.
    """
    targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX).flatten()
    # the number of targets has to be known here: one wait for the device a step, far cheaper than
    # projecting every row onto the vocabulary
    rows = (targets != IGNORE_INDEX).nonzero().squeeze(1)
    return rows, targets[rows]
