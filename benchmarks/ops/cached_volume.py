"""An item from a warm cache: 240 x 480 x 480 voxels as they are, windowed to floats, and a crop of them.

MONAI's ``PersistentDataset`` keeps what its pipeline ends with, a windowed float32 tensor, and reads
all of it for a crop. ``ct_vlm`` keeps int16 HU: ``ct_vlm`` is the uncompressed form, the others are
compressed without loss. Ours read into a buffer that is used again, and check what they read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.ops._volumes import GRID, scratch, source_volume
from ct_vlm.cache import ArrayCache
from ct_vlm.datasets.windowed import window_into
from ct_vlm.transforms import CTPreset
from ct_vlm.transforms.resample import resample_linear

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

CODECS = {"ct_vlm": "uncompressed", "ct_vlm lz4": "lz4", "ct_vlm zstd": "zstd"}
PRESET = CTPreset("bench", windows=((-1000, 1000),))
_WHOLE = tuple(slice(0, length) for length in GRID)
_CROP = (slice(72, 168), slice(176, 304), slice(176, 304))
CASES: list[dict[str, Any]] = [
    {"name": "int16_240x480x480", "region": _WHOLE, "windowed": False},
    {"name": "float32_240x480x480", "region": _WHOLE, "windowed": True},
    {"name": "float32_96x128x128", "region": _CROP, "windowed": True},
]
TESTS = "tests/cache"
REFERENCE = "naive"
BASELINE = "MONAI PersistentDataset"
GRADIENTS: tuple[str, ...] = ()


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the volume, filled caches and buffers."""
    volume = resample_linear(source_volume(), GRID)
    shape = tuple(part.stop - part.start for part in case["region"])
    return {
        "case": case,
        "volume": volume,
        "entries": {codec: _entry(codec, volume) for codec in CODECS.values()},
        "monai": _persistent(volume),
        "hu": np.empty(shape, np.int16),
        "floats": np.empty((1, *shape), np.float32),
    }


def _entry(codec: str, volume: np.ndarray) -> tuple[ArrayCache, Path | None]:
    """Return a cache and the path of its entry, written once a process."""
    cache = ArrayCache(scratch(codec), codec)
    path = cache.path("volume", {"codec": codec})
    if not cache.contains(path):
        cache.store(path, {"image": volume}, key={"codec": codec})
    return cache, path


def _persistent(volume: np.ndarray) -> Any:
    """Return a ``PersistentDataset`` whose entry is written."""
    from monai.data import PersistentDataset
    from monai.transforms import Transform

    class Windowed(Transform):  # MONAI keeps what its own deterministic transforms return, nothing else
        def __call__(self, data: Any) -> dict[str, Tensor]:  # noqa: ARG002 (what it is called with)
            return {"image": PRESET.window(torch.from_numpy(volume)[None, None])[0]}

    dataset = PersistentDataset([{"image": "volume"}], Windowed(), cache_dir=scratch("monai"))
    dataset[0]
    return dataset


def _naive(inputs: dict[str, Any]) -> Tensor:
    hu = torch.from_numpy(inputs["volume"][inputs["case"]["region"]])
    return PRESET.window(hu.double()[None, None])[0] if inputs["case"]["windowed"] else hu


def _monai(inputs: dict[str, Any]) -> Tensor:
    image: Tensor = inputs["monai"][0]["image"][(slice(None), *inputs["case"]["region"])]
    # the native form is compared as HU; MONAI has windowed for good, so what lay outside is gone
    return image if inputs["case"]["windowed"] else image[0]


def _ours(codec: str) -> Callable[[dict[str, Any]], Tensor]:
    def provide(inputs: dict[str, Any]) -> Tensor:
        cache, path = inputs["entries"][codec]
        case = inputs["case"]
        with cache.open(path) as entry:
            if case["windowed"]:
                window_into(entry["image"], PRESET, inputs["floats"], case["region"])
                return torch.from_numpy(inputs["floats"])
            entry["image"].read_into(inputs["hu"], case["region"])
            return torch.from_numpy(inputs["hu"])

    return provide


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "naive": _naive,
    "MONAI PersistentDataset": _monai,
    **{name: _ours(codec) for name, codec in CODECS.items()},
}


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work: read int16, write int16 or float32."""
    voxels = int(np.prod([part.stop - part.start for part in case["region"]]))
    return {"flops": 0, "bytes": voxels * (2 + (4 if case["windowed"] else 2))}
