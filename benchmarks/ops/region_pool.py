"""R² pooling of ViT-B/14 tokens: a mean of every slice, 9 x 6 tokens of six representative ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.ops.region_pool import region_pool, uniform_slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CASES: list[dict[str, Any]] = [
    {"name": f"d{slices}_37x37_c768_k6", "slices": slices, "grid": (37, 37), "channels": 768, "selected": 6}
    for slices in (32, 120)
]
SLOW_GRID = (9, 6)


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return tokens and the selected slices."""
    height, width = case["grid"]
    shape = (1, case["slices"], height * width, case["channels"])
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    slices = uniform_slices(case["slices"], case["selected"])[None].to(device)
    return {"tokens": tokens, "slice_index": slices, "grid": case["grid"]}


def _run(backend: str) -> Callable[[dict[str, Any]], tuple[Tensor, Tensor]]:
    def run(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return region_pool(**inputs, slow_grid=SLOW_GRID, backend=backend)

    return run


PROVIDERS: dict[str, Callable[[dict[str, Any]], tuple[Tensor, Tensor]]] = {
    # pools all slices both ways, then selects
    "naive": _run("naive"),
    "ct_vlm": _run("auto"),
}
REFERENCE = "naive"
BASELINE = "naive"
GRADIENTS = ("tokens",)


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work of the forward pass: read every token once, write the pooled ones."""
    height, width = case["grid"]
    tokens = case["slices"] * height * width
    pooled = case["slices"] + case["selected"] * SLOW_GRID[0] * SLOW_GRID[1]
    return {"flops": tokens * case["channels"], "bytes": (tokens + pooled) * case["channels"] * dtype.itemsize}
