"""Keys and values of a visual memory: projected once, read at every decode step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch.nn.functional as F

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.weights import AttentionWeights


@dataclass(frozen=True)
class MemoryKV:
    """Projected memory of one layer; make it with :func:`memory_kv`.

    Args:
        key: Keys, those of valid tokens first.
        value: Values in the same order.
        lengths: Valid tokens of every sample; None if all are valid.

    Shape:
        - key, value: ``(B, M, H, d)``; lengths: ``(B,)``, int32.
    """

    key: Tensor
    value: Tensor
    lengths: Tensor | None = None

    def select(self, index: Tensor) -> Self:
        """Return the memory of some samples, in a new order: for beams and several sequences a prompt.

        Args:
            index: Samples to take; one may be taken often.

        Shape:
            - index: ``(K,)``, int64.
        """
        lengths = None if self.lengths is None else self.lengths.index_select(0, index)
        return type(self)(self.key.index_select(0, index), self.value.index_select(0, index), lengths)


def memory_kv(memory: Tensor, weights: AttentionWeights, *, num_heads: int, mask: Tensor | None = None) -> MemoryKV:
    """Project a visual memory to keys and values, once for a whole generation.

    Attention does not depend on the order of its keys, so masked tokens are moved behind the valid
    ones: later steps then need their number and no mask.

    Args:
        memory: Visual tokens.
        weights: The projections.
        num_heads: Attention heads; divides the projected width.
        mask: Which tokens are valid.

    Shape:
        - memory: ``(B, M, C)``; mask: ``(B, M)``, bool.

    Raises:
        ShapeError: If shapes do not fit.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.gated_cross_attention import AttentionWeights, memory_kv
        >>> weights = AttentionWeights(*(torch.eye(4) for _ in range(4)))
        >>> found = memory_kv(torch.randn(1, 3, 4), weights, num_heads=2, mask=torch.tensor([[True, False, True]]))
        >>> found.key.shape, found.lengths
        (torch.Size([1, 3, 2, 2]), tensor([2], dtype=torch.int32))
    """
    width, channels = weights.key.shape
    if memory.ndim != 3 or memory.shape[-1] != channels or weights.value.shape != weights.key.shape:
        cause = f"Expected memory (B, M, {channels}), but got {tuple(memory.shape)}."
        raise ShapeError(cause, "Project the visual tokens to the width that key and value projection take.")
    if width % num_heads != 0:
        cause = f"Expected `num_heads` to divide the projected width, but got {num_heads} and {width}."
        raise ShapeError(cause, "Choose another number of heads.")
    lengths = None
    if mask is not None:
        if mask.shape != memory.shape[:2]:
            cause = f"Expected a mask {tuple(memory.shape[:2])}, but got {tuple(mask.shape)}."
            raise ShapeError(cause, "Pass one flag a memory token.")
        order = (~mask.bool()).int().argsort(dim=1, stable=True)
        memory = memory.take_along_dim(order.unsqueeze(-1), 1)
        lengths = mask.sum(1).int()
    key = F.linear(memory, weights.key, weights.key_bias).unflatten(-1, (num_heads, -1))
    value = F.linear(memory, weights.value, weights.value_bias).unflatten(-1, (num_heads, -1))
    return MemoryKV(key, value, lengths)
