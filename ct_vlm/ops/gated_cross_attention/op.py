"""Cross-attention to a visual memory, tanh gate and residual in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError
from ct_vlm.ops.dispatch import dispatch
from ct_vlm.ops.gated_cross_attention.attention import BACKENDS

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.gated_cross_attention.memory import MemoryKV
    from ct_vlm.ops.weights import AttentionWeights


def gated_cross_attention(
    residual: Tensor,
    memory: MemoryKV,
    weights: AttentionWeights,
    gate: Tensor | None = None,
    *,
    normed: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``residual + tanh(gate) * W_o attention(W_q normed, memory)``.

    Gate and residual cost no pass of their own: the gate multiplies the attention's output before
    the output projection, and the projection adds its product to the residual.

    Keys and values come projected (:func:`memory_kv`), so a decode step projects its own tokens only.
    A sample without valid memory gets the output bias through the gate, nothing else.

    Args:
        residual: Hidden states that are added to.
        memory: Projected visual memory.
        weights: The projections; key and value are not read here.
        gate: One number before its tanh; None leaves the gate out.
        normed: What queries are made of, usually the normalised hidden states; default ``residual``.
        scale: Factor of the scores; default one over the root of the head's width.
        backend: ``auto``, ``flash``, ``varlen``, ``triton``, ``sdpa`` or ``naive``.

    Shape:
        - residual, normed: ``(B, T, E)``; gate: one element.
        - Output: ``(B, T, E)``.

    Raises:
        ShapeError: If shapes do not fit the memory and the weights.
        ConfigError: If the backend cannot run these inputs.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.gated_cross_attention import AttentionWeights, gated_cross_attention, memory_kv
        >>> weights = AttentionWeights(*(torch.randn(8, 8) for _ in range(4)))
        >>> memory, hidden = memory_kv(torch.randn(1, 5, 8), weights, num_heads=2), torch.randn(1, 3, 8)
        >>> closed = gated_cross_attention(hidden, memory, weights, torch.zeros(1))
        >>> bool(torch.equal(closed, hidden))
        True

    References:
        [1] Ker-VLJEPA-3B, 2026, https://arxiv.org/abs/2603.23308, Eq. 7, which shows no gate; its text does.
        [2] Alayrac et al., Flamingo, 2022, https://arxiv.org/abs/2204.14198, section 3.1.2: the tanh gate.
    """
    normed = residual if normed is None else normed
    _check(residual, normed, memory, weights, gate)
    query = F.linear(normed, weights.query, weights.query_bias).unflatten(-1, memory.key.shape[2:])
    scale = float(query.shape[-1]) ** -0.5 if scale is None else scale
    pooled = dispatch(
        "gated_cross_attention", BACKENDS, backend, query, memory.key, memory.value, memory.lengths, scale
    )
    pooled, bias = pooled.flatten(-2), weights.out_bias
    if gate is not None:
        opened = torch.tanh(gate).to(pooled.dtype).reshape(())
        pooled, bias = pooled * opened, None if bias is None else bias * opened
    base = (residual if bias is None else residual + bias).flatten(0, -2)
    if base.dtype != pooled.dtype or torch.is_autocast_enabled(base.device.type):
        # the residual stream may be wider than what attention ran in
        return base.view(residual.shape) + F.linear(pooled, weights.out)
    return torch.addmm(base, pooled.flatten(0, -2), weights.out.t()).view(residual.shape)


def _check(residual: Tensor, normed: Tensor, memory: MemoryKV, weights: AttentionWeights, gate: Tensor | None) -> None:
    """Raise if shapes do not fit each other."""
    batch, width = memory.key.shape[0], memory.key.shape[2] * memory.key.shape[3]
    if residual.ndim != 3 or residual.shape[0] != batch or residual.shape[-1] != weights.out.shape[0]:
        cause = f"Expected hidden states ({batch}, T, {weights.out.shape[0]}), but got {tuple(residual.shape)}."
        raise ShapeError(cause, "Repeat or reorder the memory with the beams: `MemoryKV.select`.")
    if normed.shape != (*residual.shape[:2], weights.query.shape[1]):
        expected = (*residual.shape[:2], weights.query.shape[1])
        cause = f"Expected normalised hidden states {expected}, but got {tuple(normed.shape)}."
        raise ShapeError(cause, "Pass the hidden states of the same tokens.")
    if weights.query.shape[0] != width or weights.out.shape[1] != width:
        cause = f"Expected query and output projection of width {width}, but got {tuple(weights.query.shape)}"
        cause += f" and {tuple(weights.out.shape)}."
        raise ShapeError(cause, "Make the memory with the same weights.")
    if gate is not None and gate.numel() != 1:
        cause = f"Expected a gate of one element, but got {tuple(gate.shape)}."
        raise ShapeError(cause, "Use one gate a layer.")
