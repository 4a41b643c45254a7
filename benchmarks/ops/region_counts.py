"""Pixels of each region in each slice, at MedRegion-CT's size and at CT-RATE's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from benchmarks.ops.mask_pool import make_labels
from ct_vlm.ops.region_pool import region_slice_counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TESTS = "tests/ops/region_pool"
"""The op lives in the folder of the pooling that uses it."""

CASES: list[dict[str, Any]] = [
    {"name": "r6_240x480x480", "regions": 6, "size": (240, 480, 480)},
    {"name": "r197_32x256x256", "regions": 197, "size": (32, 256, 256)},
]


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return an int16 label map, as it is read from a NIfTI file; the type of the features plays no part."""
    depth, height, width = case["size"]
    coarse = make_labels((depth // 4, height // 8, width // 8), case["regions"])
    labels = coarse.repeat_interleave(4, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return {"labels": labels.to(device, torch.int16), "regions": case["regions"]}


def _label_loop(inputs: dict[str, Any]) -> Tensor:
    return torch.stack([(inputs["labels"] == r + 1).sum((2, 3)) for r in range(inputs["regions"])], 1)


def _bincount(inputs: dict[str, Any]) -> Tensor:
    labels, width = inputs["labels"], inputs["regions"] + 1
    counts = [torch.bincount(one.flatten(), minlength=width)[1:] for one in labels.flatten(0, 1)]
    return torch.stack(counts).view(*labels.shape[:2], -1).transpose(1, 2)


def _ours(inputs: dict[str, Any]) -> Tensor:
    return region_slice_counts(inputs["labels"], inputs["regions"])


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": _label_loop,
    "bincount": _bincount,
    "ct_vlm": _ours,
}
REFERENCE = "naive"
BASELINE = "naive"
GRADIENTS = ()


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work: read the int16 labels once."""
    depth, height, width = case["size"]
    return {"flops": 0, "bytes": 2 * depth * height * width}
