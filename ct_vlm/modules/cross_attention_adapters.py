"""Cross-attention adapters for chosen layers of a language model, each with its own view of the memory.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (Eq. 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.modules.gated_cross_attention import GatedCrossAttention
from ct_vlm.ops.gated_cross_attention import MemoryKV

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class CrossAttentionAdapters(Component):
    """A :class:`GatedCrossAttention` and a memory projector for each of some decoder layers.

    It is the ``cross_attention`` of a :class:`ct_vlm.decoders.CausalLMDecoder`, which applies the
    adapter of a layer to that layer's output, at every position and every decode step.

    Args:
        embed_dim: Width E of the decoder.
        layers: Decoder layers that get an adapter, counted from 0.
        num_heads: Number of attention heads.
        memory_dim: Width C of the memory; None means ``embed_dim``.
        project: Whether each layer has a linear projector of the memory before its keys and values.
        gate: ``"tanh"`` or None.
        gate_init: First value of the gates, before their tanh.
        init_gain: Gain of the Xavier initialisation of the adapters.
        backend: How attention is computed.

    Shape:
        - memory: ``(B, M, C)``; mask: ``(B, M)``, bool; hidden: ``(B, T, E)``.
        - keys and values of all layers: ``(B, L, 2, M, heads, E / heads)``.

    Raises:
        ConfigError: If no layer is named, or one twice.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import CrossAttentionAdapters
        >>> adapters = CrossAttentionAdapters(16, layers=[1, 3], num_heads=4)
        >>> states, lengths = adapters.remember(torch.randn(2, 5, 16))
        >>> adapters(torch.randn(2, 7, 16), 3, states, lengths).shape
        torch.Size([2, 7, 16])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: layers 7, 14 and 21 of 28 (whether counted from 0 is not
        said). Inferred: 24 heads of 128 channels; the projectors' initialisation, PyTorch's own.
    """

    def __init__(
        self,
        embed_dim: int,
        layers: Sequence[int],
        num_heads: int,
        *,
        memory_dim: int | None = None,
        project: bool = True,
        gate: Literal["tanh"] | None = "tanh",
        gate_init: float = 0.1,
        init_gain: float = 0.3,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if not layers or len(set(layers)) != len(layers) or min(layers) < 0:
            cause = f"Expected distinct `layers` from 0 up, at least one, but got {list(layers)}."
            raise ConfigError(cause, "Name the decoder layers whose output reads the memory.")
        self.embed_dim, self.layers = embed_dim, tuple(layers)
        self.memory_dim = embed_dim if memory_dim is None else memory_dim
        inner = embed_dim if project else self.memory_dim
        projectors = {str(layer): nn.Linear(self.memory_dim, embed_dim) for layer in layers} if project else {}
        self.projectors = nn.ModuleDict(projectors)
        self.adapters = nn.ModuleDict(
            {
                str(layer): GatedCrossAttention(
                    embed_dim,
                    num_heads,
                    memory_dim=inner,
                    gate=gate,
                    gate_init=gate_init,
                    init_gain=init_gain,
                    backend=backend,
                )
                for layer in layers
            }
        )

    def remember(self, memory: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Make keys and values of every layer, once for all decode steps.

        Args:
            memory: Visual tokens.
            mask: True where a token is valid; None means everywhere.

        Returns:
            Keys and values of all layers, and the number of valid tokens (None without a mask), both
            with the batch as first axis: beams repeat them, as they repeat every input.
        """
        memory = memory.to(self._adapter(self.layers[0]).key.weight.dtype)
        kept = []
        for layer in self.layers:
            projected = self.projectors[str(layer)](memory) if self.projectors else memory
            kept.append(self._adapter(layer).project(projected, mask))
        states = torch.stack([torch.stack([kv.key, kv.value], dim=1) for kv in kept], dim=1)
        return states, kept[0].lengths

    def forward(self, hidden: Tensor, layer: int, states: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return a layer's output with what it read of the memory added.

        Args:
            hidden: Output of the layer.
            layer: Its index.
            states: What :meth:`remember` returned.
            lengths: What :meth:`remember` returned.
        """
        key, value = states[:, self.layers.index(layer)].unbind(dim=1)
        read: Tensor = self._adapter(layer)(hidden, MemoryKV(key, value, lengths))
        return read

    def _adapter(self, layer: int) -> GatedCrossAttention:
        """Return the adapter of a layer."""
        return cast("GatedCrossAttention", self.adapters[str(layer)])
