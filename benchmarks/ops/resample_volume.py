"""Resampling alone: int16 HU 300 x 512 x 512 to 240 x 480 x 480, trilinear.

``ct_vlm`` gives its result in fresh memory, as the others do; ``ct_vlm into`` writes into memory that is used again.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.ops._volumes import GRID, SOURCE, source_volume, trilinear
from ct_vlm.transforms.resample import resample_linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CASES: list[dict[str, Any]] = [{"name": "300x512x512_to_240x480x480", "source": SOURCE, "target": GRID}]
TESTS = "tests/transforms/test_resample.py"
REFERENCE = "naive"
BASELINE = "F.interpolate"
GRADIENTS: tuple[str, ...] = ()


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the volume; its values are integers in every dtype."""
    return {
        "volume": source_volume(case["source"]),
        "target": case["target"],
        "buffer": np.zeros(case["target"], np.int16),
    }


def shrink(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case whose float64 fits: the same ratios of lengths."""
    return {**case, "source": (75, 128, 128), "target": (60, 120, 120)}


def _naive(inputs: dict[str, Any]) -> Tensor:
    return torch.from_numpy(trilinear(inputs["volume"], inputs["target"]))


def _interpolate(inputs: dict[str, Any]) -> Tensor:
    volume = torch.from_numpy(inputs["volume"]).float()[None, None]
    return F.interpolate(volume, size=inputs["target"], mode="trilinear", align_corners=False)[0, 0]


def _zoom(inputs: dict[str, Any]) -> Tensor:
    from scipy import ndimage

    volume = inputs["volume"]
    factors = [target / length for target, length in zip(inputs["target"], volume.shape, strict=True)]
    # `grid_mode`: voxels as boxes, as everyone else here
    found = ndimage.zoom(volume.astype(np.float32), factors, order=1, mode="nearest", grid_mode=True)
    return torch.from_numpy(found)


def _itk(inputs: dict[str, Any]) -> Tensor:
    import SimpleITK as sitk  # noqa: N813 (its documented name)

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.GetImageFromArray(inputs["volume"])
    size = inputs["target"][::-1]
    spacing = [length / target for length, target in zip(image.GetSize(), size, strict=True)]
    origin = [(step - 1) / 2 for step in spacing]
    found = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, origin, spacing, image.GetDirection(), 0.0, sitk.sitkInt16, True
    )
    return torch.from_numpy(sitk.GetArrayFromImage(found))


def _ours(inputs: dict[str, Any]) -> Tensor:
    return torch.from_numpy(resample_linear(inputs["volume"], inputs["target"]))


def _ours_into(inputs: dict[str, Any]) -> Tensor:
    return torch.from_numpy(resample_linear(inputs["volume"], inputs["target"], out=inputs["buffer"]))


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": _naive,
    "F.interpolate": _interpolate,
    "scipy zoom": _zoom,
    "ct_vlm": _ours,
    "ct_vlm into": _ours_into,
}
MISSING: dict[str, str] = {}
if importlib.util.find_spec("SimpleITK") is not None:
    PROVIDERS["SimpleITK"] = _itk
else:
    MISSING["SimpleITK"] = "not installed (the extra `bench`)"


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work: read and write int16 once, one weighted sum an axis and target voxel."""
    voxels = int(np.prod(case["target"]))
    return {"flops": 9 * voxels, "bytes": 2 * (int(np.prod(case["source"])) + voxels)}
