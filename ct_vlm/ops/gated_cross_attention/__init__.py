"""Gated cross-attention injection: hidden states of a decoder layer read a visual memory.

:func:`memory_kv` projects the memory once, :func:`gated_cross_attention` is called with it at every
step; attention, tanh gate and residual are one call.
"""

from __future__ import annotations

from ct_vlm.ops.gated_cross_attention.attention import BACKENDS, example_inputs
from ct_vlm.ops.gated_cross_attention.memory import MemoryKV, memory_kv
from ct_vlm.ops.gated_cross_attention.op import gated_cross_attention
from ct_vlm.ops.weights import AttentionWeights

__all__ = [
    "BACKENDS",
    "AttentionWeights",
    "MemoryKV",
    "example_inputs",
    "gated_cross_attention",
    "memory_kv",
]
