"""Attention under the hybrid mask: vision looks both ways within itself, text looks back.

:func:`prefix_attention` attends without a dense mask, :class:`PrefixLayout` says where the visual
tokens and the padding of every sample stand.
"""

from __future__ import annotations

from ct_vlm.ops.prefix_attention.layout import PrefixLayout
from ct_vlm.ops.prefix_attention.op import BACKENDS, example_inputs, prefix_attention

__all__ = ["BACKENDS", "PrefixLayout", "example_inputs", "prefix_attention"]
