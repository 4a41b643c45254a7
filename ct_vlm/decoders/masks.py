"""The hybrid attention mask: vision looks both ways within itself, text looks back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def hybrid_attention_mask(visual_mask: Tensor, attention_mask: Tensor) -> Tensor:
    """Build the mask of a whole sequence.

    A visual token sees every visual token of its sample (the first and the last included) and the
    text before it; a text token sees what stands before it and itself. Padding is seen by nobody
    else; it sees itself, because a row without any key has no softmax.

    Args:
        visual_mask: True at visual tokens.
        attention_mask: True (or 1) at real tokens.

    Shape:
        - visual_mask, attention_mask: ``(B, S)``.
        - Output: ``(B, 1, S, S)``, True where a query (row) sees a key (column).

    Example:
        >>> import torch
        >>> from ct_vlm.decoders.masks import hybrid_attention_mask
        >>> visual = torch.tensor([[False, True, True, False]])
        >>> hybrid_attention_mask(visual, torch.ones(1, 4))[0, 0].int()
        tensor([[1, 0, 0, 0],
                [1, 1, 1, 0],
                [1, 1, 1, 0],
                [1, 1, 1, 1]], dtype=torch.int32)

    References:
        U-VLM, https://arxiv.org/abs/2603.00479. Differs from the released code: there the
        bidirectional block is shifted by one token.
    """
    length = visual_mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=visual_mask.device).tril()
    block = visual_mask[:, :, None] & visual_mask[:, None, :]
    seen = (causal | block) & attention_mask.bool()[:, None, :]
    own = torch.eye(length, dtype=torch.bool, device=visual_mask.device)
    return (seen | own)[:, None]


def as_additive(keep: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask into one that is added to the scores, for eager attention."""
    return torch.zeros(keep.shape, dtype=dtype, device=keep.device).masked_fill(~keep, torch.finfo(dtype).min)
