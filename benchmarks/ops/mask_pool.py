"""Mask pooling: 6 to 197 regions of a 256-channel map of 32 x 64 x 64 cells, channels last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ct_vlm.ops.mask_pool import index_labels, mask_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LABELLED = 0.7
"""Share of cells in a region: a body fills about that much of its box."""

CASES: list[dict[str, Any]] = [
    {"name": f"r{regions}_32x64x64_c256", "regions": regions, "grid": (32, 64, 64), "channels": 256}
    for regions in (197, 66, 6)
]


def make_labels(grid: tuple[int, int, int], regions: int) -> Tensor:
    """Return compact regions (cells of the nearest of random seeds) inside an ellipsoid, ``(1, D, H, W)``."""
    generator = torch.Generator().manual_seed(0)
    axes = [(torch.arange(size) + 0.5) / size for size in grid]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)
    seeds = torch.rand(regions, 3, generator=generator)
    labels = torch.cat([torch.cdist(part, seeds).argmin(1) + 1 for part in points.split(2**14)])
    radius = (points - 0.5).norm(dim=1)
    labels[radius.argsort()[int(LABELLED * len(labels)) :]] = 0
    return labels.view(1, *grid).to(torch.uint8 if regions < 256 else torch.int16)


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return features, labels and the index, which is made once for a volume."""
    labels = make_labels(case["grid"], case["regions"]).to(device)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, case["channels"], *case["grid"], generator=generator).to(device, dtype)
    features = features.contiguous(memory_format=torch.channels_last_3d)
    return {"features": features, "labels": labels, "index": index_labels(labels, case["regions"])}


def _one_hot_einsum(inputs: dict[str, Any]) -> Tensor:
    features, regions = inputs["features"], inputs["index"].num_regions
    masks = F.one_hot(inputs["labels"].long(), regions + 1)[..., 1:].to(features.dtype)
    sums = torch.einsum("bdhwr,bcdhw->brc", masks, features)
    return sums / masks.sum((1, 2, 3)).clamp_min(1)[..., None]


def _one_hot_matmul(inputs: dict[str, Any]) -> Tensor:
    features, regions = inputs["features"], inputs["index"].num_regions
    names = torch.arange(1, regions + 1, device=features.device)
    masks = (inputs["labels"].flatten(1)[:, None] == names[:, None]).to(features.dtype)
    sums = masks @ features.flatten(2).transpose(1, 2)
    return sums / masks.sum(2).clamp_min(1)[..., None]


def _index_add(inputs: dict[str, Any]) -> Tensor:
    features, regions = inputs["features"], inputs["index"].num_regions
    labels = inputs["labels"].flatten().long()
    rows = features.flatten(2).transpose(1, 2).flatten(0, 1)
    sums = rows.new_zeros(regions + 1, rows.shape[1]).index_add(0, labels, rows)[1:]
    counts = torch.bincount(labels, minlength=regions + 1)[1:]
    return (sums / counts.clamp_min(1)[:, None])[None]


def _ours(inputs: dict[str, Any]) -> Tensor:
    return mask_pool(inputs["features"], inputs["index"])


def _ours_with_sort(inputs: dict[str, Any]) -> Tensor:
    return mask_pool(inputs["features"], index_labels(inputs["labels"], inputs["index"].num_regions))


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": _one_hot_einsum,
    "one_hot_matmul": _one_hot_matmul,
    "index_add": _index_add,
    "ct_vlm": _ours,
    "ct_vlm_with_sort": _ours_with_sort,
}
REFERENCE = "naive"
BASELINE = "naive"
GRADIENTS = ("features",)


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work of the forward pass: read the labelled cells' features, write the means."""
    depth, height, width = case["grid"]
    cells = int(LABELLED * depth * height * width)
    return {
        "flops": cells * case["channels"],
        "bytes": (cells + case["regions"]) * case["channels"] * dtype.itemsize,
    }
