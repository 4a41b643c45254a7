"""Zone-constrained cross-attention: the queries of a zone see the slices of that zone only.

:func:`zone_attention` is the attention core over projected keys and values, :func:`zone_attention_block`
the whole block with its projections, and :class:`ZoneLayout` says where the zones of a packed batch
of ragged volumes lie.
"""

from __future__ import annotations

from ct_vlm.ops.weights import AttentionWeights
from ct_vlm.ops.zone_attention.absorbed import FoldedQueries, fold_queries
from ct_vlm.ops.zone_attention.block import block_flops, zone_attention_block
from ct_vlm.ops.zone_attention.core import BACKENDS, example_inputs, zone_attention
from ct_vlm.ops.zone_attention.layout import ZoneLayout

__all__ = [
    "BACKENDS",
    "AttentionWeights",
    "FoldedQueries",
    "ZoneLayout",
    "block_flops",
    "example_inputs",
    "fold_queries",
    "zone_attention",
    "zone_attention_block",
]
