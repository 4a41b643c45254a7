"""Gated cross-attention injection: hidden states of a decoder layer read a visual memory.

:func:`memory_kv` projects the memory once, :func:`gated_cross_attention` is called with it at every
step; attention, tanh gate and residual are one call.
"""

from __future__ import annotations

from ct_vlm.ops.gated_cross_attention.attention import BACKENDS, example_inputs
from ct_vlm.ops.gated_cross_attention.memory import CrossAttentionWeights, MemoryKV, memory_kv
from ct_vlm.ops.gated_cross_attention.op import gated_cross_attention

__all__ = [
    "BACKENDS",
    "CrossAttentionWeights",
    "MemoryKV",
    "example_inputs",
    "gated_cross_attention",
    "memory_kv",
]
