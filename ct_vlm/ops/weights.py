"""Projections of an attention, as the ops take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class AttentionWeights(NamedTuple):
    """Projections of an attention, stored as ``nn.Linear`` stores them.

    Args:
        query: Query projection.
        key: Key projection.
        value: Value projection.
        out: Output projection.
        query_bias: Bias of the query projection.
        key_bias: Bias of the key projection; softmax cancels it unless keys are transformed.
        value_bias: Bias of the value projection.
        out_bias: Bias of the output projection.

    Shape:
        - query: ``(H * d, E)``; key, value: ``(H * d, C)``; out: ``(F, H * d)``.
        - query_bias, key_bias, value_bias: ``(H * d,)``; out_bias: ``(F,)``.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    query_bias: Tensor | None = None
    key_bias: Tensor | None = None
    value_bias: Tensor | None = None
    out_bias: Tensor | None = None
