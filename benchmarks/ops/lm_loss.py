"""Head and loss of U-VLM's decoder at the vocabulary of Qwen3: 384 visual and 300 text tokens, labels on the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ct_vlm.ops.lm_loss import lm_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def _case(name: str, vocabulary: int, visual: int = 384, text: int = 300, dim: int = 512) -> dict[str, Any]:
    return {"name": name, "vocabulary": vocabulary, "visual": visual, "text": text, "dim": dim}


CASES: list[dict[str, Any]] = [
    _case("v151669_384_300", 151_669),
    _case("v8192_384_300", 8192),
]
REFERENCE = "naive"
BASELINE = "logits of all rows"
GRADIENTS: tuple[str, ...] = ("hidden", "weight")
ROWS = 150
"""Rows of PyTorch's chunks: by itself it takes two at a time on the CPU, ten times slower than all at once."""


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return hidden states, the head's weight and targets; the same numbers in every dtype."""
    generator = torch.Generator().manual_seed(0)
    total = case["visual"] + case["text"]
    hidden = torch.randn(total, case["dim"], generator=generator)
    weight = torch.randn(case["vocabulary"], case["dim"], generator=generator) * 0.02
    targets = torch.randint(case["vocabulary"], (total,), generator=generator)
    targets[: case["visual"]] = -100
    return {"hidden": hidden.to(device, dtype), "weight": weight.to(device, dtype), "targets": targets.to(device)}


def _all_rows(inputs: dict[str, Any]) -> Tensor:
    logits = F.linear(inputs["hidden"], inputs["weight"])
    return F.cross_entropy(logits.float() if logits.itemsize < 4 else logits, inputs["targets"])


def _ours(inputs: dict[str, Any], backend: str = "auto") -> Tensor:
    return lm_loss(inputs["hidden"], inputs["weight"], inputs["targets"], backend=backend)


def _library(inputs: dict[str, Any]) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=ROWS, allow_retain_graph=True)
    return F.linear_cross_entropy(inputs["hidden"], inputs["weight"], inputs["targets"], options=options)


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": lambda inputs: _ours(inputs, "naive"),
    BASELINE: _all_rows,
    "ct_vlm": _ours,
}
if hasattr(F, "linear_cross_entropy"):
    PROVIDERS["F.linear_cross_entropy"] = _library


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the operations of a forward pass over the rows with labels, and the bytes of its inputs."""
    rows, size = case["text"], case["dim"] * case["vocabulary"]
    return {"flops": 2 * rows * size, "bytes": (size + rows * case["dim"]) * dtype.itemsize}
