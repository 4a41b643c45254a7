"""The whole zone attention block: projections, attention within zones, output projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.dispatch import override
from ct_vlm.ops.zone_attention.absorbed import (
    FoldedQueries,
    absorbed_padded,
    pool_padded,
    project_out,
    project_values,
)
from ct_vlm.ops.zone_attention.absorbed_cpu import absorbed_cpu, pool_runs
from ct_vlm.ops.zone_attention.core import BACKENDS, zone_attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ct_vlm.ops.weights import AttentionWeights
    from ct_vlm.ops.zone_attention.layout import ZoneLayout

FORMS = ("auto", "absorbed", "projected")


def zone_attention_block(
    queries: Tensor | FoldedQueries,
    slices: Tensor,
    layout: ZoneLayout,
    weights: AttentionWeights,
    *,
    num_heads: int,
    scale: float | None = None,
    key_transform: Callable[[Tensor], Tensor] | None = None,
    form: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Let the queries of every zone attend to the slices of that zone, with all four projections.

    Two exact forms. *projected* projects every slice to a key and a value and runs
    :func:`zone_attention` on them. *absorbed* folds the key projection into the queries, pools the
    raw slices and applies the value projection to what was pooled: with few queries this is most of
    the work saved. ``auto`` takes the form with fewer operations (:func:`block_flops`).

    A zone without slices gives the output projection of zeros, which is its bias.

    Args:
        queries: Latent queries, the same for all volumes or given a volume; or what ``fold_queries``
            made of them, which takes the absorbed form and has its scale already.
        slices: Slice embeddings of all volumes, packed one volume after the other.
        layout: Where the zones lie.
        weights: The projections.
        num_heads: Attention heads; divides the width of the projected queries.
        scale: Factor of the scores; default one over the root of the head's width.
        key_transform: Applied to projected keys ``(T, H, d)``: a key norm or a rotary embedding. It
            stands between slice and score, so only the projected form can run it.
        form: ``auto``, ``absorbed`` or ``projected``.
        backend: Backend of the attention in the projected form. Naming one, here or in
            ``CT_VLM_OPS``, takes the projected form unless ``form`` asks for the other.

    Shape:
        - queries: ``(Z, Q, E)`` or ``(B, Z, Q, E)``; slices: ``(T, C)``.
        - Output: ``(B, Z, Q, F)``.

    Raises:
        ShapeError: If shapes do not fit the layout and the weights.
        ConfigError: If the form is unknown, or absorbed although keys are transformed.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.zone_attention import AttentionWeights, ZoneLayout, zone_attention_block
        >>> layout = ZoneLayout.even([6, 9], num_zones=3)
        >>> weights = AttentionWeights(*(torch.randn(8, 8) for _ in range(4)))
        >>> zone_attention_block(torch.randn(3, 1, 8), torch.randn(15, 8), layout, weights, num_heads=2).shape
        torch.Size([2, 3, 1, 8])
    """
    if isinstance(queries, FoldedQueries):
        _check_folded(queries, slices, layout, num_heads, form, key_transform)
        return _from_folded(queries, slices, layout, weights)
    _check(queries, slices, layout, weights, num_heads)
    if scale is None:
        scale = float(weights.query.shape[0] // num_heads) ** -0.5
    queries = queries if queries.ndim == 4 else queries.unsqueeze(0)
    if _choose(form, backend, key_transform, queries, layout, weights, num_heads) == "absorbed":
        run = absorbed_cpu if _plain_cpu(queries, slices, weights) else absorbed_padded
        out = run(queries, slices, layout, weights, num_heads, scale)
        return out.view(layout.num_volumes, layout.num_zones, queries.shape[2], -1)
    linear = torch.nn.functional.linear
    heads = (num_heads, -1)
    query = linear(queries, weights.query, weights.query_bias).unflatten(-1, heads)
    key = linear(slices, weights.key, weights.key_bias).unflatten(-1, heads)
    value = linear(slices, weights.value, weights.value_bias).unflatten(-1, heads)
    if key_transform is not None:
        key = key_transform(key)
    query = query.expand(layout.num_volumes, -1, -1, -1, -1)
    out = zone_attention(query, key, value, layout, scale=scale, backend=backend)
    return linear(out.flatten(-2), weights.out, weights.out_bias)


def block_flops(
    layout: ZoneLayout, weights: AttentionWeights, num_queries: int, num_heads: int, *, shared: bool = True
) -> dict[str, int]:
    """Return the operations of both forms in a forward pass, a multiply and an add counted as two.

    Args:
        layout: Where the zones lie.
        weights: The projections, for their sizes.
        num_queries: Queries a zone.
        num_heads: Attention heads.
        shared: Whether all volumes have the same queries, which are then projected and folded once.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.zone_attention import AttentionWeights, ZoneLayout, block_flops
        >>> weights = AttentionWeights(*(torch.empty(1024, 1024, device="meta") for _ in range(4)))
        >>> found = block_flops(ZoneLayout.even([240, 600], 8), weights, num_queries=4, num_heads=16)
        >>> round(found["projected"] / found["absorbed"], 1)
        6.0
    """
    width, dim = weights.query.shape
    channels, total = weights.key.shape[1], layout.total
    zones = layout.num_volumes * layout.num_zones
    folded = num_queries * layout.num_zones * (1 if shared else layout.num_volumes)
    same = 2 * folded * dim * width + 2 * zones * num_queries * width * weights.out.shape[0]
    return {
        "absorbed": same
        + 2 * folded * channels * width
        + 4 * total * num_queries * num_heads * channels
        + 2 * zones * num_queries * channels * width,
        "projected": same + 4 * total * channels * width + 4 * total * num_queries * width,
    }


def _from_folded(folded: FoldedQueries, slices: Tensor, layout: ZoneLayout, weights: AttentionWeights) -> Tensor:
    """Run what is left of the absorbed block when its queries are folded already."""
    if not torch.is_grad_enabled() and _plain_cpu(folded.rows, slices, weights):
        pooled, _ = pool_runs(folded.rows, slices.contiguous(), layout)
    else:
        pooled = pool_padded(folded.rows, slices, layout)
    out = project_out(project_values(pooled, weights, layout, folded.num_heads), weights)
    return out.view(layout.num_volumes, layout.num_zones, -1, weights.out.shape[0])


def _choose(
    form: str,
    backend: str,
    key_transform: object,
    queries: Tensor,
    layout: ZoneLayout,
    weights: AttentionWeights,
    num_heads: int,
) -> str:
    """Return the form that runs."""
    if form not in FORMS:
        cause = f"There is no form `{form}` of the zone attention block."
        raise ConfigError(cause, f"Use one of: {', '.join(FORMS)}.")
    if form == "absorbed" and key_transform is not None:
        cause = "Keys that are transformed after their projection cannot be absorbed into the queries."
        raise ConfigError(cause, 'Use `form="auto"`, or normalise the slices before the block.')
    if form != "auto":
        return form
    asked = override("zone_attention", [item.name for item in BACKENDS]) if backend == "auto" else backend
    if key_transform is not None or asked not in {None, "auto"}:
        return "projected"
    flops = block_flops(layout, weights, queries.shape[2], num_heads, shared=queries.shape[0] == 1)
    return min(flops, key=lambda name: flops[name])


def _plain_cpu(queries: Tensor, slices: Tensor, weights: AttentionWeights) -> bool:
    """Tell whether the written-out form can run: on the CPU, one dtype, no autocast."""
    tensors = [queries, slices, *(weight for weight in weights if weight is not None)]
    plain = all(tensor.device.type == "cpu" and tensor.dtype == slices.dtype for tensor in tensors)
    return plain and not torch.is_autocast_enabled("cpu")


def _check(queries: Tensor, slices: Tensor, layout: ZoneLayout, weights: AttentionWeights, num_heads: int) -> None:
    """Raise if shapes do not fit each other."""
    dim, channels = weights.query.shape[1], weights.key.shape[1]
    leading = [(layout.num_zones,), (layout.num_volumes, layout.num_zones), (1, layout.num_zones)]
    if queries.shape[:-2] not in leading or queries.shape[-1] != dim:
        shape = f"({layout.num_volumes} or none, {layout.num_zones}, Q, {dim})"
        cause = f"Expected queries {shape}, but got {tuple(queries.shape)}."
        raise ShapeError(cause, "Build the layout from the same batch.")
    if slices.shape != (layout.total, channels):
        cause = f"Expected packed slices ({layout.total}, {channels}), but got {tuple(slices.shape)}."
        raise ShapeError(cause, "Pack the valid slices of all volumes one after the other.")
    width = weights.query.shape[0]
    if weights.key.shape != weights.value.shape or weights.key.shape[0] != width or weights.out.shape[1] != width:
        cause = f"Expected projections to one width, but got {[tuple(item.shape) for item in weights[:4]]}."
        raise ShapeError(cause, "Query, key and value project to `num_heads` times the head's width.")
    if width % num_heads != 0:
        cause = f"Expected `num_heads` to divide the projected width, but got {num_heads} and {width}."
        raise ShapeError(cause, "Choose another number of heads.")


def _check_folded(
    folded: FoldedQueries, slices: Tensor, layout: ZoneLayout, num_heads: int, form: str, key_transform: object
) -> None:
    """Raise if folded queries do not fit the call."""
    if form not in {"auto", "absorbed"} or key_transform is not None:
        cause = "Folded queries hold the key projection, so keys cannot be projected or transformed after it."
        raise ConfigError(cause, "Pass the queries themselves.")
    rows = folded.rows
    leading = [(1, layout.num_zones), (layout.num_volumes, layout.num_zones)]
    if rows.shape[:2] not in leading or slices.shape != (layout.total, rows.shape[-1]) or folded.num_heads != num_heads:
        cause = f"Expected folded queries for {layout.num_zones} zones, {num_heads} heads and slices "
        cause += f"{tuple(slices.shape)}, but got {tuple(rows.shape)} with {folded.num_heads} heads."
        raise ShapeError(cause, "Fold the queries with the weights and heads of this call.")
