"""Attention weights of zone attention, for pictures: the fused op never forms them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.zone_attention import ZoneLayout


def zone_weights(query: Tensor, key: Tensor, layout: ZoneLayout) -> Tensor:
    """Return the weight of every packed row for the queries of its zone, averaged over heads.

    Args:
        query: Projected queries of every zone, the same for all volumes.
        key: Projected keys, packed.
        layout: Where the zones lie.

    Shape:
        - query: ``(Z, Q, H, d)``; key: ``(T, H, d)``.
        - Output: ``(T, Q)``; the rows of a zone sum to 1.

    Example:
        >>> import torch
        >>> from ct_vlm.modules.zone_weights import zone_weights
        >>> from ct_vlm.ops.zone_attention import ZoneLayout
        >>> zone_weights(torch.zeros(2, 1, 1, 4), torch.zeros(3, 1, 4), ZoneLayout.even([3], 2)).flatten()
        tensor([0.5000, 0.5000, 1.0000])
    """
    lengths = torch.tensor(layout.lengths, device=key.device)
    zone = torch.arange(len(lengths), device=key.device).repeat_interleave(lengths)
    scores = torch.einsum("tqhd,thd->tqh", query[zone % layout.num_zones], key) * query.shape[-1] ** -0.5
    index = zone.view(-1, 1, 1).expand_as(scores)
    shape = (len(lengths), *scores.shape[1:])
    highest = scores.new_full(shape, -torch.inf).scatter_reduce(0, index, scores, "amax")
    raised = (scores - highest[zone]).exp()
    total = scores.new_zeros(shape).index_add(0, zone, raised)
    return (raised / total[zone]).mean(-1)
