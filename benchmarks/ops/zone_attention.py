"""The zone attention block at Ker-VLJEPA-3B's sizes, beside what else computes it.

Every provider starts from the same slices: packed for this library, padded to the longest volume for
those that need a rectangle. Weights are the same numbers, in the form each provider takes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ct_vlm.ops.zone_attention import AttentionWeights, ZoneLayout, block_flops, fold_queries, zone_attention_block

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def _case(name: str, lengths: tuple[int, ...], zones: int, queries: int) -> dict[str, Any]:
    return {"name": name, "lengths": lengths, "zones": zones, "queries": queries, "heads": 16, "dim": 1024}


CASES: list[dict[str, Any]] = [
    _case("b2_240_600_z8", (240, 600), 8, 4),
    _case("b2_240_240_z8", (240, 240), 8, 4),
    _case("b2_600_600_z8", (600, 600), 8, 4),
    _case("b2_240_600_z4", (240, 600), 4, 8),
    _case("b2_240_600_z32", (240, 600), 32, 1),
    _case("b2_240_600_z8_q128", (240, 600), 8, 16),
    _case("b2_240_600_z8_q512", (240, 600), 8, 64),
]
REFERENCE = "naive"
BASELINE = "nn.MultiheadAttention + mask"
WEIGHTS = ("query", "key", "value", "out", "query_bias", "key_bias", "value_bias", "out_bias")
GRADIENTS: tuple[str, ...] = ("queries", "slices", "padded", "in_proj_weight", "in_proj_bias", *WEIGHTS)
"""Leaves of all providers; each reads its own form of slices and weights and leaves the others alone."""


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return queries, slices, weights, mask and the zone layout; the same numbers in every dtype."""
    generator = torch.Generator().manual_seed(0)
    dim, lengths, layout = case["dim"], case["lengths"], ZoneLayout.even(case["lengths"], case["zones"])

    def randn(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale

    found = {"queries": randn(case["zones"], case["queries"], dim), "slices": randn(layout.total, dim)}
    found |= {name: randn(dim, dim, scale=dim**-0.5) for name in WEIGHTS[:4]}
    found |= {name: randn(dim, scale=0.1) for name in WEIGHTS[4:]}
    found["padded"] = torch.nn.utils.rnn.pad_sequence(list(found["slices"].split(lengths)), batch_first=True)
    found["in_proj_weight"] = torch.cat([found[name] for name in WEIGHTS[:3]])
    found["in_proj_bias"] = torch.cat([found[name] for name in WEIGHTS[4:7]])
    inputs: dict[str, Any] = {name: tensor.to(device, dtype) for name, tensor in found.items()}
    inputs["inside"] = _inside(case).to(device)
    folded = fold_queries(inputs["queries"], _weights(inputs), num_heads=case["heads"])
    inputs |= {"layout": layout, "heads": case["heads"], "folded": folded}
    return inputs | {"module": _module(inputs)}


def _inside(case: dict[str, Any]) -> Tensor:
    """Return which padded slices a query sees; **shape** ``(B, Z * Q, longest)``, bool."""
    lengths = torch.tensor(case["lengths"]).unsqueeze(1)
    places = torch.arange(int(lengths.max()))
    zone = torch.where(places < lengths, places * case["zones"] // lengths, -1)
    query_zone = torch.arange(case["zones"]).repeat_interleave(case["queries"])
    return zone.unsqueeze(1) == query_zone.unsqueeze(1)


def _weights(inputs: dict[str, Any]) -> AttentionWeights:
    return AttentionWeights(*(inputs[name] for name in WEIGHTS))


def _block(inputs: dict[str, Any], **options: str) -> Tensor:
    return zone_attention_block(
        inputs["queries"], inputs["slices"], inputs["layout"], _weights(inputs), num_heads=inputs["heads"], **options
    )


def _folded(inputs: dict[str, Any]) -> Tensor:
    """Run the block as inference can: queries and key projection are constants there."""
    options = {"layout": inputs["layout"], "weights": _weights(inputs), "num_heads": inputs["heads"]}
    return zone_attention_block(inputs["folded"], inputs["slices"], **options)


def _multihead(inputs: dict[str, Any]) -> Tensor:
    module, inside = inputs["module"], inputs["inside"]
    # its parameters are leaves of its own: gradients of the call before must not be added to
    module.zero_grad(set_to_none=True)
    queries = inputs["queries"].flatten(0, 1).expand(len(inside), -1, -1)
    mask = ~inside.repeat_interleave(inputs["heads"], 0)
    out, _ = module(queries, inputs["padded"], inputs["padded"], attn_mask=mask, need_weights=False)
    return _by_zone(out, inputs)


def _module(inputs: dict[str, Any]) -> torch.nn.MultiheadAttention:
    """Return PyTorch's module with the weights of the inputs.

    It is the module and not its function: without gradients PyTorch projects rows several times slower
    by plain tensors than by parameters, if the rows are a view.
    """
    queries = inputs["queries"]
    options = {"batch_first": True, "device": queries.device, "dtype": queries.dtype}
    module = torch.nn.MultiheadAttention(queries.shape[-1], inputs["heads"], **options)
    state = {"in_proj_weight": inputs["in_proj_weight"], "in_proj_bias": inputs["in_proj_bias"]}
    module.load_state_dict(state | {"out_proj.weight": inputs["out"], "out_proj.bias": inputs["out_bias"]})
    return module


def _by_zone(out: Tensor, inputs: dict[str, Any]) -> Tensor:
    return out.unflatten(1, inputs["queries"].shape[:2])


def _projected(inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Project queries once, keys and values in one product; **shape** ``(B, H, rows, d)``."""
    dim, heads = inputs["queries"].shape[-1], (inputs["heads"], -1)
    weight, bias = inputs["in_proj_weight"], inputs["in_proj_bias"]
    query = F.linear(inputs["queries"].flatten(0, 1), weight[:dim], bias[:dim]).unflatten(-1, heads).transpose(0, 1)
    both = F.linear(inputs["padded"], weight[dim:], bias[dim:]).unflatten(-1, (2, *heads))
    key, value = both.permute(2, 0, 3, 1, 4)
    return query.expand(len(key), -1, -1, -1), key, value


def _sdpa(inputs: dict[str, Any]) -> Tensor:
    query, key, value = _projected(inputs)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=inputs["inside"].unsqueeze(1))
    return _by_zone(F.linear(out.transpose(1, 2).flatten(2), inputs["out"], inputs["out_bias"]), inputs)


def _flex(inputs: dict[str, Any]) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask

    query, key, value = _projected(inputs)
    inside = inputs["inside"]

    def visible(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return inside[batch, row, column]

    if "block_mask" not in inputs:
        inputs["block_mask"] = create_block_mask(visible, len(key), None, *inside.shape[1:], device=str(key.device))
    out = _compiled_flex()(query, key, value, block_mask=inputs["block_mask"])
    return _by_zone(F.linear(out.transpose(1, 2).flatten(2), inputs["out"], inputs["out_bias"]), inputs)


def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    if "flex" not in _COMPILED:
        _COMPILED["flex"] = torch.compile(flex_attention)
    return _COMPILED["flex"]


_COMPILED: dict[str, Callable[..., Tensor]] = {}

PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": lambda inputs: _block(inputs, form="projected", backend="naive"),
    BASELINE: _multihead,
    "SDPA + mask": _sdpa,
    "ct_vlm projected": lambda inputs: _block(inputs, form="projected"),
    "ct_vlm": _block,
    "ct_vlm, queries folded before": _folded,
}
MISSING: dict[str, str] = {}
if torch.cuda.is_available():
    PROVIDERS["FlexAttention"] = _flex
else:
    MISSING["FlexAttention"] = "no backward on CPUs, and the first call compiles for more than a minute"
FORWARD_ONLY = {"ct_vlm, queries folded before": "folded queries are constants: inference only"}


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least operations of a forward pass over both forms, and the bytes that must be read and written."""
    layout = ZoneLayout.even(case["lengths"], case["zones"])
    dim, tokens = case["dim"], case["zones"] * case["queries"]
    weights = AttentionWeights(*(torch.empty(dim, dim, device="meta") for _ in range(4)))
    flops = min(block_flops(layout, weights, case["queries"], case["heads"]).values())
    elements = 4 * dim * dim + 4 * dim + (layout.total + tokens + len(case["lengths"]) * tokens) * dim
    return {"flops": flops, "bytes": elements * dtype.itemsize}
