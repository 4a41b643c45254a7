"""Gated cross-attention at Llama-3.2-3B's width, beside what else computes it.

In prefill and training every provider projects the memory; in a decode step this library reads keys
and values that were projected before, and the others have no way to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ct_vlm.ops.gated_cross_attention import AttentionWeights, MemoryKV, gated_cross_attention, memory_kv

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def _case(name: str, batch: int, tokens: int, memory: int, *, decode: bool) -> dict[str, Any]:
    sizes = {"batch": batch, "tokens": tokens, "memory": memory, "decode": decode}
    return {"name": name, "heads": 24, "dim": 3072, **sizes}


CASES: list[dict[str, Any]] = [
    _case("decode_b1_m32", 1, 1, 32, decode=True),
    _case("decode_b1_m356", 1, 1, 356, decode=True),
    _case("prefill_b1_t128_m32", 1, 128, 32, decode=False),
    _case("prefill_b1_t384_m356", 1, 384, 356, decode=False),
]
REFERENCE = "naive"
BASELINE = "nn.MultiheadAttention, gate, residual"
WEIGHTS = ("query", "key", "value", "out")
GRADIENTS: tuple[str, ...] = ("residual", "normed", "memory", "gate", *WEIGHTS)
"""Leaves of all providers but the module, whose parameters are its own."""
FORWARD_ONLY = {case["name"]: "a decode step has no backward" for case in CASES if case["decode"]}


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return hidden states, memory, gate and weights (no biases, as in Llama); the same numbers in every dtype."""
    generator = torch.Generator().manual_seed(0)
    dim, batch = case["dim"], case["batch"]

    def randn(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale

    found = {"residual": randn(batch, case["tokens"], dim), "memory": randn(batch, case["memory"], dim)}
    found["normed"] = F.layer_norm(found["residual"], (dim,))
    found["gate"] = torch.full((1,), 0.1, dtype=torch.float64)
    found |= {name: randn(dim, dim, scale=dim**-0.5) for name in WEIGHTS}
    inputs: dict[str, Any] = {name: tensor.to(device, dtype) for name, tensor in found.items()}
    inputs["heads"] = case["heads"]
    projected = memory_kv(inputs["memory"], _weights(inputs), num_heads=case["heads"])
    return inputs | {"cached": projected if case["decode"] else None, "module": _module(inputs)}


def _weights(inputs: dict[str, Any]) -> AttentionWeights:
    return AttentionWeights(*(inputs[name] for name in WEIGHTS))


def _project(inputs: dict[str, Any]) -> MemoryKV:
    return memory_kv(inputs["memory"], _weights(inputs), num_heads=inputs["heads"])


def _ours(inputs: dict[str, Any], *, cached: bool = True, backend: str = "auto") -> Tensor:
    memory = inputs["cached"] if cached and inputs["cached"] is not None else _project(inputs)
    return gated_cross_attention(
        inputs["residual"], memory, _weights(inputs), inputs["gate"], normed=inputs["normed"], backend=backend
    )


def _multihead(inputs: dict[str, Any]) -> Tensor:
    module, memory = inputs["module"], inputs["memory"]
    # its parameters are leaves of its own: gradients of the call before must not be added to
    module.zero_grad(set_to_none=True)
    out, _ = module(inputs["normed"], memory, memory, need_weights=False)
    return inputs["residual"] + torch.tanh(inputs["gate"]) * out


def _module(inputs: dict[str, Any]) -> torch.nn.MultiheadAttention:
    """Return PyTorch's module with the weights of the inputs."""
    memory = inputs["memory"]
    options = {"bias": False, "batch_first": True, "device": memory.device, "dtype": memory.dtype}
    module = torch.nn.MultiheadAttention(memory.shape[-1], inputs["heads"], **options)
    packed = torch.cat([inputs[name] for name in WEIGHTS[:3]])
    module.load_state_dict({"in_proj_weight": packed, "out_proj.weight": inputs["out"]})
    return module


def _sdpa(inputs: dict[str, Any]) -> Tensor:
    heads = (inputs["heads"], -1)
    query = F.linear(inputs["normed"], inputs["query"]).unflatten(-1, heads).transpose(1, 2)
    key = F.linear(inputs["memory"], inputs["key"]).unflatten(-1, heads).transpose(1, 2)
    value = F.linear(inputs["memory"], inputs["value"]).unflatten(-1, heads).transpose(1, 2)
    out = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return inputs["residual"] + torch.tanh(inputs["gate"]) * F.linear(out, inputs["out"])


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": lambda inputs: _ours(inputs, cached=False, backend="naive"),
    BASELINE: _multihead,
    "SDPA, gate, residual": _sdpa,
    "ct_vlm": _ours,
}


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least operations of a forward pass, and the bytes that must be read and written."""
    dim, rows, memory = case["dim"], case["batch"] * case["tokens"], case["batch"] * case["memory"]
    flops = 4 * rows * dim * dim + 4 * rows * case["memory"] * dim
    elements = 2 * dim * dim + 3 * rows * dim
    if case["decode"]:
        elements += 2 * memory * dim
    else:
        flops += 4 * memory * dim * dim
        elements += 2 * dim * dim + memory * dim
    return {"flops": flops, "bytes": elements * dtype.itemsize}
