"""One adapter that lets hidden states of a language model read a visual memory.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (Eq. 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.ops.gated_cross_attention import AttentionWeights, MemoryKV, gated_cross_attention, memory_kv

if TYPE_CHECKING:
    from torch import Tensor


class GatedCrossAttention(Component):
    """Pre-norm cross-attention to a visual memory, behind a tanh gate, added to the hidden states.

    ``h + tanh(g) * W_o attention(W_q LN(h), W_k m, W_v m)``: no positions, no causal mask, no biases.
    Keys and values are made once (:meth:`project`) and read at every decode step. An adapter has
    seven tensors: two of the norm, four projections and the gate.

    Args:
        embed_dim: Width E of the hidden states.
        num_heads: Number of attention heads.
        memory_dim: Width C of the memory; None means ``embed_dim``.
        gate: ``"tanh"``, or None for no gate (the literal Eq. 7).
        gate_init: First value of the gate, before its tanh. Zero would close the adapter, and with it
            every gradient but the gate's own.
        init_gain: Gain of the Xavier initialisation of the four projections.
        backend: How attention is computed, see :func:`ct_vlm.ops.gated_cross_attention.gated_cross_attention`.

    Shape:
        - hidden: ``(B, T, E)``; memory: ``(B, M, C)``; mask: ``(B, M)``, bool.
        - Output: ``(B, T, E)``.

    Raises:
        ConfigError: If the heads do not divide the width, or the gate is unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import GatedCrossAttention
        >>> adapter = GatedCrossAttention(16, num_heads=4)
        >>> memory = adapter.project(torch.randn(2, 5, 16))
        >>> adapter(torch.randn(2, 3, 16), memory).shape
        torch.Size([2, 3, 16])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, Eq. 7; ``init_gain`` is the paper's. Inferred: norm, gate and
        the absence of biases, from its 21 tensors in three adapters; ``gate_init``, because the
        projections are not drawn at zero. The gate is that of Flamingo, arXiv 2204.14198.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        memory_dim: int | None = None,
        gate: Literal["tanh"] | None = "tanh",
        gate_init: float = 0.1,
        init_gain: float = 0.3,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            cause = f"Expected `num_heads` to divide `embed_dim`, but got {num_heads} and {embed_dim}."
            raise ConfigError(cause, "Choose e.g. embed_dim // 128 heads.")
        if gate not in {"tanh", None}:
            cause = f"Expected `gate` to be 'tanh' or None, but got {gate!r}."
            raise ConfigError(cause, "Use None for the sum without a gate.")
        self.num_heads, self.backend = num_heads, backend
        memory_dim = embed_dim if memory_dim is None else memory_dim
        self.norm = nn.LayerNorm(embed_dim)
        self.query = nn.Linear(embed_dim, embed_dim, bias=False)
        self.key = nn.Linear(memory_dim, embed_dim, bias=False)
        self.value = nn.Linear(memory_dim, embed_dim, bias=False)
        self.out = nn.Linear(embed_dim, embed_dim, bias=False)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight, gain=init_gain)
        # one axis, not none: sharded training takes no scalars
        self.gate = nn.Parameter(torch.full((1,), gate_init)) if gate == "tanh" else None

    def project(self, memory: Tensor, mask: Tensor | None = None) -> MemoryKV:
        """Make keys and values of a memory, once for all steps.

        Args:
            memory: Visual tokens.
            mask: True where a token is valid; None means everywhere.

        Shape:
            - memory: ``(B, M, C)``; mask: ``(B, M)``, bool.
        """
        return memory_kv(memory.to(self.key.weight.dtype), self._weights(), num_heads=self.num_heads, mask=mask)

    def forward(self, hidden: Tensor, memory: MemoryKV) -> Tensor:
        """Return the hidden states with what they read added; their dtype stays.

        A sample without valid memory keeps its hidden states.
        """
        # a model in bfloat16 may have adapters in float32
        normed = self.norm(hidden.to(self.norm.weight.dtype))
        read = gated_cross_attention(hidden, memory, self._weights(), self.gate, normed=normed, backend=self.backend)
        return read.to(hidden.dtype)

    def _weights(self) -> AttentionWeights:
        """Return the projections as the op takes them."""
        return AttentionWeights(self.query.weight, self.key.weight, self.value.weight, self.out.weight)
