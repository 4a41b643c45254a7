"""Volume to the cubes a video model reads, or to their embeddings: from an MP4, as RGB floats, and ours.

Pixels are normalised with mean 0 and deviation 1 / 255, which costs what any other normalisation
costs and keeps gray values as they are: the difference column shows what the codec loses.
"""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.ops.video_cubes import fold_patch_embedding, gray_patch_embedding, volume_to_cubes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TEMPORAL, PATCH = 2, 14
PIXELS = TEMPORAL * PATCH**2
MEAN, STD = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)

CASES: list[dict[str, Any]] = [
    {"name": "cubes_240x476x476", "size": (240, 476, 476), "embed": 0},
    {"name": "embed1280_8x476x476", "size": (8, 476, 476), "embed": 1280},
]


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return a smooth volume with noise as uint8, its MP4, and the weights of an RGB patch embedding."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 8, 16, 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=case["size"], mode="trilinear")[0, 0]
    # about the noise of soft tissue in a lung window
    noise = torch.randn(case["size"], generator=generator).mul_(0.02)
    volume = smooth.add_(noise).mul_(255).clamp_(0, 255).to(torch.uint8)
    inputs: dict[str, Any] = {"volume": volume.to(device), "device": device, "dtype": dtype, "weight": None}
    if importlib.util.find_spec("av") is not None:
        inputs["mp4"] = encode(volume)
    if case["embed"]:
        weight = torch.randn(case["embed"], 3, TEMPORAL, PATCH, PATCH, generator=generator) / PIXELS
        inputs["weight"] = weight.to(device, dtype)
        inputs["folded"] = fold_patch_embedding(inputs["weight"], None, MEAN, STD)
    return inputs


def encode(volume: Tensor) -> bytes:
    """Encode slices as the frames of an H.264 MP4."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=18, options={"crf": "23", "preset": "medium"})
        stream.height, stream.width = volume.shape[1:]
        stream.pix_fmt = "yuv420p"
        for image in volume.numpy():
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _rgb_cubes(frames: Tensor, inputs: dict[str, Any]) -> Tensor:
    """Normalise RGB frames ``(D, H, W, 3)`` and cut them, as a video model's processor does."""
    # in place, and with the division by 255 folded into the constants, as processors do
    mean, std = (torch.tensor(values, dtype=inputs["dtype"], device=frames.device) * 255 for values in (MEAN, STD))
    pixels = frames.to(inputs["dtype"]).sub_(mean).div_(std)
    depth, height, width, _ = pixels.shape
    blocks = pixels.view(depth // TEMPORAL, TEMPORAL, height // PATCH, PATCH, width // PATCH, PATCH, 3)
    cubes = blocks.permute(0, 2, 4, 6, 1, 3, 5).reshape(-1, 3 * PIXELS)
    if inputs["weight"] is not None:
        return torch.nn.functional.linear(cubes, inputs["weight"].flatten(1))
    return cubes[:, :PIXELS]


def _rgb(inputs: dict[str, Any]) -> Tensor:
    return _rgb_cubes(inputs["volume"][..., None].expand(-1, -1, -1, 3), inputs)


def _mp4(inputs: dict[str, Any]) -> Tensor:
    import av

    with av.open(io.BytesIO(inputs["mp4"])) as container:
        stream = container.streams.video[0]
        # one thread, as every other provider
        stream.codec_context.thread_count = 1
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    return _rgb_cubes(torch.stack(frames).to(inputs["device"]), inputs)


def _ours(inputs: dict[str, Any]) -> Tensor:
    cubes = volume_to_cubes(inputs["volume"], temporal=TEMPORAL, patch=PATCH)
    return cubes if inputs["weight"] is None else gray_patch_embedding(cubes, *inputs["folded"])


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {"naive": _rgb, "ct_vlm": _ours}
BASELINE = "mp4"
MISSING: dict[str, str] = {}
if importlib.util.find_spec("av") is not None:
    PROVIDERS["mp4"] = _mp4
else:
    MISSING["mp4"] = "PyAV is not installed (`pip install av`, or the extra `bench`)"
REFERENCE = "naive"
GRADIENTS = ()


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least work: copy the uint8 volume, and one channel's product where it is embedded."""
    depth, height, width = case["size"]
    pixels = depth * height * width
    written = pixels if not case["embed"] else pixels // PIXELS * case["embed"] * dtype.itemsize
    return {"flops": 2 * pixels * case["embed"], "bytes": pixels + written}
