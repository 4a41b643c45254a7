"""From a raw ``.nii.gz`` of 512 x 512 x 300 to int16 HU on a grid of 240 x 480 x 480.

The peers return HU as floating-point numbers, unwindowed, so that results can be compared; that
saves them a pass. MONAI's pipeline places its grid otherwise, which the difference column shows.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.ops._volumes import GRID, GRID_SPACING, SOURCE, source_file, source_volume, trilinear
from ct_vlm.transforms import CTPreset, load_on_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CASES: list[dict[str, Any]] = [{"name": "512x512x300_to_240x480x480", "source": SOURCE, "target": GRID}]
TESTS = "tests/transforms/test_on_grid.py"
REFERENCE = "naive"
BASELINE = "MONAI dictionary pipeline"
GRADIENTS: tuple[str, ...] = ()


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the file, and what the peers need once and not a volume."""
    return {"case": case, "path": source_file(case["source"]), "preset": CTPreset("bench", size=case["target"])}


def shrink(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case whose float64 fits."""
    return {**case, "source": (75, 128, 128), "target": (60, 120, 120)}


def _naive(inputs: dict[str, Any]) -> Tensor:
    return torch.from_numpy(trilinear(source_volume(inputs["case"]["source"]), inputs["case"]["target"]))


def _ours(inputs: dict[str, Any]) -> Tensor:
    return torch.from_numpy(load_on_grid(inputs["path"], inputs["preset"]).array)


def _monai(inputs: dict[str, Any]) -> Tensor:
    from monai import transforms

    size = inputs["case"]["target"]
    pipeline = transforms.Compose(
        [
            transforms.LoadImaged("image"),
            transforms.EnsureChannelFirstd("image"),
            transforms.Orientationd("image", axcodes="LPI"),
            transforms.Spacingd("image", pixdim=GRID_SPACING[::-1]),
            transforms.ResizeWithPadOrCropd("image", spatial_size=size[::-1]),
        ]
    )
    return pipeline({"image": str(inputs["path"])})["image"].as_tensor()[0].permute(2, 1, 0)


def _ct_clip(inputs: dict[str, Any]) -> Tensor:
    """Load as the scripts of CT-CLIP and its descendants do."""
    import nibabel as nib

    values = 1.0 * nib.load(inputs["path"]).get_fdata() + 0.0
    volume = torch.tensor(values.transpose(2, 1, 0)[::-1].copy())[None, None]
    return F.interpolate(volume, size=inputs["case"]["target"], mode="trilinear", align_corners=False)[0, 0]


def _itk(inputs: dict[str, Any]) -> Tensor:
    """Read by SimpleITK and interpolate by torch: the shortest way without this library."""
    import SimpleITK as sitk  # noqa: N813 (its documented name)

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.ReadImage(str(inputs["path"]))
    volume = torch.from_numpy(sitk.GetArrayFromImage(image)[::-1].astype(np.float32))[None, None]
    return F.interpolate(volume, size=inputs["case"]["target"], mode="trilinear", align_corners=False)[0, 0]


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": _naive,
    "MONAI dictionary pipeline": _monai,
    "CT-CLIP script": _ct_clip,
    "ct_vlm": _ours,
}
MISSING: dict[str, str] = {}
if importlib.util.find_spec("SimpleITK") is not None:
    PROVIDERS["SimpleITK + F.interpolate"] = _itk
else:
    MISSING["SimpleITK + F.interpolate"] = "not installed (the extra `bench`)"


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work of memory; decompression, which has no such floor, is most of the time."""
    voxels = int(np.prod(case["target"]))
    return {"flops": 9 * voxels, "bytes": 2 * (int(np.prod(case["source"])) + voxels)}
