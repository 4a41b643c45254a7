"""The zone block with the key and value projections absorbed into the query side.

With few queries nearly all work of the block is in projecting every slice to a key and a value.
The scores ``q (W_k x)`` are also ``(q W_k) x``, and a weighted sum of ``W_v x`` is ``W_v`` applied to the
weighted sum of ``x``: the key projection is folded into the queries once, the raw slices are pooled,
and the value projection acts on the pooled rows. The key bias adds one number to all scores of a
query and leaves the softmax as it is; the value bias is added once, as weights sum to one.

Shape letters: B volumes, Z zones a volume, Q queries a zone, N = B * Z zones of the batch, T slices,
H heads, d channels a head, C channels of a slice, P = Z * Q queries (B * Z * Q if they differ by volume).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.ops.weights import AttentionWeights
    from ct_vlm.ops.zone_attention.layout import ZoneLayout


class FoldedQueries(NamedTuple):
    """Queries with the key projection folded in; make them with :func:`fold_queries`.

    Args:
        rows: What is multiplied with slices, already scaled.
        num_heads: Attention heads.

    Shape:
        - rows: ``(1 or B, Z, Q * H, C)``.
    """

    rows: Tensor
    num_heads: int


def fold_queries(
    queries: Tensor, weights: AttentionWeights, *, num_heads: int, scale: float | None = None
) -> FoldedQueries:
    """Project queries and fold the key projection into them, once for as long as weights do not change.

    At inference the queries of a model are constants: ``zone_attention_block`` takes the result in
    place of the queries and skips what was done here.

    Args:
        queries: Latent queries, the same for all volumes or given a volume.
        weights: The projections.
        num_heads: Attention heads.
        scale: Factor of the scores; default one over the root of the head's width.

    Shape:
        - queries: ``(Z, Q, E)`` or ``(B, Z, Q, E)``.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.zone_attention import AttentionWeights, fold_queries
        >>> weights = AttentionWeights(*(torch.randn(8, 8) for _ in range(4)))
        >>> fold_queries(torch.randn(3, 2, 8), weights, num_heads=2).rows.shape
        torch.Size([1, 3, 4, 8])
    """
    if scale is None:
        scale = float(weights.query.shape[0] // num_heads) ** -0.5
    queries = queries if queries.ndim == 4 else queries.unsqueeze(0)
    folded = fold(project_queries(queries.flatten(0, 2), weights, scale), weights.key, num_heads)
    return FoldedQueries(folded.view(*queries.shape[:2], -1, weights.key.shape[1]), num_heads)


def project_queries(queries: Tensor, weights: AttentionWeights, scale: float) -> Tensor:
    """Return scaled projected queries, channels first.

    The weight stands on the left in every product of this file: with few queries that is the faster order.

    Shape:
        - queries: ``(P, E)``.
        - Output: ``(H * d, P)``.
    """
    projected = torch.mm(weights.query, queries.t())
    if weights.query_bias is not None:
        projected = projected + weights.query_bias.to(projected.dtype).unsqueeze(1)
    return projected * scale


def fold(projected: Tensor, key: Tensor, num_heads: int) -> Tensor:
    """Fold the key projection into projected queries.

    Shape:
        - projected: ``(H * d, P)``; key: ``(H * d, C)``.
        - Output: ``(P, H, C)``.
    """
    heads = projected.unflatten(0, (num_heads, -1)).transpose(1, 2)
    return torch.bmm(heads, key.unflatten(0, (num_heads, -1))).transpose(0, 1).contiguous()


def pool_padded(folded: Tensor, slices: Tensor, layout: ZoneLayout) -> Tensor:
    """Pool the slices of every zone by attention, zones padded to the longest; plain differentiable torch.

    Shape:
        - folded: ``(1 or B, Z, Q * H, C)``; slices: ``(T, C)``.
        - Output: ``(N, Q * H, C)``.
    """
    valid = layout.valid(slices.device).view(layout.num_volumes, layout.num_zones, 1, layout.longest)
    padded = slices[layout.rows(slices.device)].unflatten(0, (layout.num_volumes, layout.num_zones))
    scores = folded @ padded.transpose(-1, -2)
    # finite, so that a zone without slices gives zeros and not NaN
    scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
    probabilities = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)) * valid
    return (probabilities.to(padded.dtype) @ padded).flatten(0, 1)


def project_values(pooled: Tensor, weights: AttentionWeights, layout: ZoneLayout, num_heads: int) -> Tensor:
    """Apply the value projection to pooled slices; a zone without slices stays zero.

    Shape:
        - pooled: ``(N, Q * H, C)``.
        - Output: ``(H * d, N * Q)``.
    """
    rows = pooled.unflatten(1, (-1, num_heads)).flatten(0, 1)
    values = torch.bmm(weights.value.unflatten(0, (num_heads, -1)), rows.permute(1, 2, 0)).flatten(0, 1)
    if weights.value_bias is not None:
        filled = layout.filled(pooled.device, pooled.shape[1] // num_heads)
        values = values + weights.value_bias.to(values.dtype).unsqueeze(1) * filled.to(values.dtype)
    return values


def project_out(values: Tensor, weights: AttentionWeights) -> Tensor:
    """Apply the output projection; **shape** ``(H * d, N * Q)`` to ``(N * Q, F)``."""
    out = torch.mm(weights.out, values).t()
    return out.contiguous() if weights.out_bias is None else out + weights.out_bias.to(out.dtype)


def absorbed_padded(
    queries: Tensor, slices: Tensor, layout: ZoneLayout, weights: AttentionWeights, num_heads: int, scale: float
) -> Tensor:
    """Run the absorbed block in few large plain torch operations: the path of accelerators and of autocast.

    Shape:
        - queries: ``(1 or B, Z, Q, E)``; slices: ``(T, C)``.
        - Output: ``(N * Q, F)``.
    """
    folded = fold_queries(queries, weights, num_heads=num_heads, scale=scale).rows
    values = project_values(pool_padded(folded, slices, layout), weights, layout, num_heads)
    return project_out(values, weights)
