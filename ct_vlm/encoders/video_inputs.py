"""Volumes as the inputs of video language models: what their processors make of a film, from tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.encoders.video_frames import check_frames, normalise, resize_frames, to_bytes
from ct_vlm.encoders.video_size import PixelLimit, smart_size
from ct_vlm.errors import ConfigError
from ct_vlm.ops.video_cubes import volume_to_cubes
from ct_vlm.transforms.configured import Configured
from ct_vlm.transforms.frame_sampling import FrameSampling

if TYPE_CHECKING:
    from torch import Tensor

OPENAI_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MIDDLE_FRAMES = FrameSampling("fps", placing="middle")

Sampling = FrameSampling | Mapping[str, Any] | str


class VideoInputs(Configured, ABC):
    """What the inputs of every video language model offer.

    Attributes:
        sampling: Which slices become frames.
    """

    sampling: Sampling

    @abstractmethod
    def __call__(self, video: Tensor) -> dict[str, Tensor]:
        """Return the vision tower's arguments for films ``(B, 3 or 1, T, H, W)``."""

    @abstractmethod
    def token_grid(self, slices: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the grid (T', H', W') of the language model's tokens for a film of this size."""

    def num_tokens(self, slices: int, height: int, width: int) -> int:
        """Return how many visual tokens a film of this size costs."""
        frames, rows, columns = self.token_grid(slices, height, width)
        return frames * rows * columns

    def frame_indices(self, slices: int) -> Tensor:
        """Return the slices that become frames, int64."""
        return torch.from_numpy(self._sampling.indices(slices, multiple=self._frames_a_token))

    def to_config(self) -> dict[str, Any]:
        """Return ``{"class_path": ..., "init_args": {...}}`` with JSON values only."""
        args: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            args[field.name] = value.to_config() if isinstance(value, FrameSampling) else value
            if isinstance(value, tuple):
                args[field.name] = list(value)
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": args}

    @property
    def _frames_a_token(self) -> int:
        """Frames that the tower joins."""
        return 1

    @property
    def _sampling(self) -> FrameSampling:
        return _as_sampling(self.sampling)

    def _frames(self, video: Tensor, *, quantise: bool) -> Tensor:
        """Return the sampled frames of checked films, as bytes unless floats are to be kept."""
        check_frames(video)
        index = self.frame_indices(video.shape[2])
        if len(index) != video.shape[2]:
            video = video.index_select(2, index.to(video.device))
        return to_bytes(video) if quantise else video


@dataclass(frozen=True)
class QwenVideoInputs(VideoInputs):
    """Inputs of Qwen2-VL and Qwen2.5-VL, and with other values of Qwen3-VL, for volumes on any device.

    Bytes in give what ``Qwen2VLVideoProcessor`` gives for the same frames: bicubic resizing to
    multiples of ``patch_size * merge_size`` within the pixel limits, rescaling, normalisation, and cubes of
    ``temporal_patch_size`` frames. Gray films are resized and cut as one channel. The numbers are the
    processor's own where it runs on the same device: a CPU rounds bytes between rows and columns, a
    GPU does not, and a smooth slice may differ by one of 255 steps, a full-contrast edge by more.

    For Qwen3-VL: ``patch_size=16``, ``mean`` and ``std`` of 0.5, ``pixel_limit="film"`` and the
    checkpoint's limits (4,096 and 25,165,824 pixels of the published ones; its class in transformers
    defaults to 786,432, 32 times fewer). :func:`~ct_vlm.encoders.read_video_inputs` reads them all.

    Args:
        sampling: Which slices become frames: a :class:`~ct_vlm.transforms.FrameSampling`, its
            config, or the name of a policy that needs no number.
        patch_size: Rows and columns of a patch.
        merge_size: Patches that the merger joins, in rows and columns.
        temporal_patch_size: Frames of a cube.
        min_pixels: Frames below are enlarged (the processor's default for videos).
        max_pixels: Frames above are reduced (the processor's default for videos).
        pixel_limit: Whether the limits are of a ``frame`` or of the whole ``film``.
        mean: Mean of each colour.
        std: Standard deviation of each colour.
        quantise: Floats are rounded to 255 steps first, as a film holds them. False keeps floats, and
            gradients reach the volume.

    Shape:
        - Input: ``(B, 3, T, H, W)`` or ``(B, 1, T, H, W)``, uint8, or float in [0, 1].
        - Output: ``pixel_values_videos`` ``(B * t * h * w, 3 * temporal_patch_size * patch_size ** 2)``,
          float32, and ``video_grid_thw`` ``(B, 3)``, int64, the grid before merging.

    Raises:
        ConfigError: If a value cannot be used, or the film has fewer frames than asked for.
        ShapeError: If the film has another rank, channel count, type or range.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import QwenVideoInputs
        >>> inputs = QwenVideoInputs()
        >>> inputs.num_tokens(240, 480, 480), inputs.token_grid(240, 480, 480)
        (3757, (13, 17, 17))
        >>> small = QwenVideoInputs("all", min_pixels=28 * 28)
        >>> out = small(torch.zeros(1, 1, 3, 56, 28, dtype=torch.uint8))
        >>> tuple(out["pixel_values_videos"].shape), out["video_grid_thw"].tolist()
        ((16, 1176), [[2, 4, 2]])

    References:
        AbSteering, arXiv 2603.12469 (Qwen2.5-VL-7B); the frames that its models saw are inferred.
    """

    sampling: Sampling = "fps"
    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 768 * 28 * 28
    pixel_limit: PixelLimit = "frame"
    mean: tuple[float, ...] = OPENAI_CLIP_MEAN
    std: tuple[float, ...] = OPENAI_CLIP_STD
    quantise: bool = True

    def __post_init__(self) -> None:
        """Bring values to their types and check them."""
        _set_common(self)
        for name in ("patch_size", "merge_size", "temporal_patch_size", "min_pixels"):
            _check_positive(name, getattr(self, name))
        if self.max_pixels < self.min_pixels:
            cause = f"`max_pixels` {self.max_pixels} is below `min_pixels` {self.min_pixels}."
            raise ConfigError(cause, "Take both from the checkpoint's video processor.")
        if self.pixel_limit not in {"frame", "film"}:
            cause = f"Expected `pixel_limit` as 'frame' or 'film', but got {self.pixel_limit!r}."
            raise ConfigError(cause, "Use 'frame' for Qwen2.5-VL and 'film' for Qwen3-VL.")

    def __call__(self, video: Tensor) -> dict[str, Tensor]:
        """Return ``pixel_values_videos`` and ``video_grid_thw``."""
        frames = self._frames(video, quantise=self.quantise)
        frames = resize_frames(frames, self.frame_size(*frames.shape[2:]))
        if missing := -frames.shape[2] % self.temporal_patch_size:
            frames = torch.cat([frames, frames[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
        batch, channels, depth, height, width = frames.shape
        cubes = volume_to_cubes(frames, temporal=self.temporal_patch_size, patch=self.patch_size, merge=self.merge_size)
        # a cube holds its colours one after the other
        cubes = cubes.transpose(1, 2).reshape(-1, channels, cubes.shape[-1])
        pixels = normalise(cubes, self.mean, self.std, axis=1)
        grid = [depth // self.temporal_patch_size, height // self.patch_size, width // self.patch_size]
        grids = torch.tensor([grid] * batch, device=video.device)
        return {"pixel_values_videos": pixels.flatten(1), "video_grid_thw": grids}

    def frame_size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns that sampled frames are resized to."""
        return smart_size(
            frames,
            height,
            width,
            factor=self.patch_size * self.merge_size,
            temporal=self.temporal_patch_size,
            pixels=(self.min_pixels, self.max_pixels),
            limit=self.pixel_limit,
        )

    def token_grid(self, slices: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the grid of merged tokens; :attr:`merge_size` times as many patches a side."""
        frames = len(self.frame_indices(slices))
        rows, columns = self.frame_size(frames, height, width)
        factor = self.patch_size * self.merge_size
        return -(-frames // self.temporal_patch_size), rows // factor, columns // factor

    def seconds_per_grid(self, slices: int) -> float:
        """Return the time between two steps of the grid, by which Qwen2.5-VL's positions go on.

        It is what ``Qwen2_5_VLProcessor`` gives as ``second_per_grid_ts``: 1.026 for 26 frames of the
        240 of a film of 18 a second, not quite the 1.0 of two frames a second.
        """
        rate = len(self.frame_indices(slices)) / slices * self._sampling.film_fps
        return self.temporal_patch_size / rate

    @property
    def _frames_a_token(self) -> int:
        return self.temporal_patch_size


@dataclass(frozen=True)
class InternVLVideoInputs(VideoInputs):
    """Inputs of InternVL3 for volumes on any device: every frame is a picture of one size.

    Bytes in give what ``InternVLVideoProcessor`` gives with the same size, mean and deviation. The
    defaults are those of the encoder and of its image processor: 448 pixels and ImageNet's mean.
    The class of transformers itself, and the ``video_preprocessor_config.json`` of some checkpoints,
    say 384 pixels and CLIP's mean, which the encoder was not trained with.

    Args:
        sampling: Which slices become frames: a :class:`~ct_vlm.transforms.FrameSampling`, its
            config, or the name of a policy that needs no number. The default places those of two
            frames a second in the middle of equal parts (inferred).
        size: Rows and columns of a frame.
        patch_size: Rows and columns of a patch.
        downsample: Patches that the pixel shuffle joins, in rows and columns (1 / ``downsample_ratio``).
        mean: Mean of each colour.
        std: Standard deviation of each colour.
        quantise: Floats are rounded to 255 steps first, as a film holds them. False keeps floats, and
            gradients reach the volume.

    Shape:
        - Input: ``(B, 3, T, H, W)`` or ``(B, 1, T, H, W)``, uint8, or float in [0, 1].
        - Output: ``pixel_values`` ``(B * frames, 3, size, size)``, float32.

    Raises:
        ConfigError: If a value cannot be used, or the film has fewer frames than asked for.
        ShapeError: If the film has another rank, channel count, type or range.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import InternVLVideoInputs
        >>> InternVLVideoInputs({"policy": "uniform", "num_frames": 8}).token_grid(240, 480, 480)
        (8, 16, 16)
        >>> small = InternVLVideoInputs("all", size=28)
        >>> tuple(small(torch.rand(2, 1, 3, 40, 40))["pixel_values"].shape)
        (6, 3, 28, 28)

    References:
        AbSteering, arXiv 2603.12469 (InternVL3-8B); the frames that its models saw are inferred.
    """

    sampling: Sampling = MIDDLE_FRAMES
    size: int = 448
    patch_size: int = 14
    downsample: int = 2
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    quantise: bool = True

    def __post_init__(self) -> None:
        """Bring values to their types and check them."""
        _set_common(self)
        for name in ("size", "patch_size", "downsample"):
            _check_positive(name, getattr(self, name))
        if self.size % (self.patch_size * self.downsample):
            cause = f"Frames of {self.size} pixels are no whole number of {self.patch_size * self.downsample}."
            raise ConfigError(cause, "Choose `size` as a multiple of `patch_size * downsample`.")

    def __call__(self, video: Tensor) -> dict[str, Tensor]:
        """Return ``pixel_values``, the frames of all films one after the other."""
        frames = resize_frames(self._frames(video, quantise=self.quantise), (self.size, self.size))
        pictures = frames.transpose(1, 2).flatten(0, 1)
        return {"pixel_values": normalise(pictures, self.mean, self.std, axis=1)}

    def token_grid(self, slices: int, height: int, width: int) -> tuple[int, int, int]:  # noqa: ARG002
        """Return the grid of shuffled tokens; it does not depend on the size of the slices."""
        side = self.size // (self.patch_size * self.downsample)
        return len(self.frame_indices(slices)), side, side


def _as_sampling(value: Sampling) -> FrameSampling:
    """Return a policy from its name, its arguments, its config, or itself."""
    if isinstance(value, FrameSampling):
        return value
    return FrameSampling.from_config({"policy": value} if isinstance(value, str) else value)


def _set_common(inputs: QwenVideoInputs | InternVLVideoInputs) -> None:
    """Bring the policy and the colours' statistics to their types."""
    object.__setattr__(inputs, "sampling", _as_sampling(inputs.sampling))
    for name in ("mean", "std"):
        values = tuple(float(value) for value in getattr(inputs, name))
        if len(values) != 3 or (name == "std" and min(values) <= 0):
            cause = f"Expected `{name}` as three numbers (deviations above 0), but got {values}."
            raise ConfigError(cause, "Take them from the checkpoint's processor.")
        object.__setattr__(inputs, name, values)


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        cause = f"Expected `{name}` of at least 1, but got {value}."
        raise ConfigError(cause, "Take it from the checkpoint's config.")
