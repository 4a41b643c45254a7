"""Attention under U-VLM's hybrid mask at its decoder's sizes, beside what else computes it.

Masks and layouts are made once for all layers of a decoder, so no provider makes one while it is timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ct_vlm.ops.prefix_attention import PrefixLayout, prefix_attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def _case(name: str, batch: int, visual: int, text: int, heads: int = 8, dim: int = 64) -> dict[str, Any]:
    return {"name": name, "batch": batch, "visual": visual, "text": text, "heads": heads, "dim": dim}


CASES: list[dict[str, Any]] = [
    _case("b4_v384_t300", 4, 384, 300),
    _case("b1_v384_t300", 1, 384, 300),
    _case("b1_v3072_t300", 1, 3072, 300),
    _case("b8_v26_t182_demo", 8, 26, 182, heads=4, dim=32),
]
REFERENCE = "naive"
BASELINE = "eager + dense mask"
GRADIENTS: tuple[str, ...] = ("query", "key", "value")


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return projected heads as a decoder lays them out, the dense mask in two forms, and the layout."""
    generator = torch.Generator().manual_seed(0)
    total = case["visual"] + case["text"]
    inputs: dict[str, Any] = {}
    for name in GRADIENTS:
        drawn = torch.randn(case["batch"], total, case["heads"], case["dim"], generator=generator, dtype=torch.float64)
        inputs[name] = drawn.to(device, dtype).transpose(1, 2)
    starts = torch.zeros(case["batch"], dtype=torch.long, device=device)
    inputs["layout"] = PrefixLayout(starts, case["visual"], total)
    inputs["keep"] = PrefixLayout(starts, case["visual"], total).visible()
    inputs["added"] = torch.zeros(inputs["keep"].shape, device=device, dtype=dtype)
    inputs["added"].masked_fill_(~inputs["keep"], torch.finfo(dtype).min)
    return inputs


def _eager(inputs: dict[str, Any]) -> Tensor:
    """Write all scores out and add the mask, as eager attention of transformers does."""
    query, key, value = (inputs[name] for name in GRADIENTS)
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    return torch.softmax(scores + inputs["added"], -1) @ value


def _sdpa(inputs: dict[str, Any]) -> Tensor:
    return F.scaled_dot_product_attention(*(inputs[name] for name in GRADIENTS), attn_mask=inputs["keep"])


def _ours(inputs: dict[str, Any], backend: str = "auto") -> Tensor:
    return prefix_attention(*(inputs[name] for name in GRADIENTS), inputs["layout"], backend=backend)


def _flex(inputs: dict[str, Any]) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    query, key, value = (inputs[name] for name in GRADIENTS)
    length, total = inputs["layout"].length, inputs["layout"].total

    def visible(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return (column <= row) | ((row < length) & (column < length))

    if "block_mask" not in inputs:
        inputs["block_mask"] = create_block_mask(visible, None, None, total, total, device=str(query.device))
    compiled = _COMPILED.setdefault("flex", torch.compile(flex_attention))
    return compiled(query, key, value, block_mask=inputs["block_mask"])


_COMPILED: dict[str, Callable[..., Tensor]] = {}

PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": lambda inputs: _ours(inputs, "naive"),
    BASELINE: _eager,
    "SDPA + mask": _sdpa,
    "ct_vlm": _ours,
}
if torch.cuda.is_available():
    # on CPUs it has no backward, and its first call compiles for more than a minute
    PROVIDERS["FlexAttention"] = _flex


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the operations on visible scores of a forward pass, and the bytes that must be read and written."""
    visual, text = case["visual"], case["text"]
    scores = visual * visual + visual * text + text * (text + 1) // 2
    heads = case["batch"] * case["heads"] * case["dim"]
    return {"flops": 4 * scores * heads, "bytes": 4 * (visual + text) * heads * dtype.itemsize}
