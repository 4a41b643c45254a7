"""Preprocessing as data: one preset says geometry, HU windows and normalisation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.transforms import window_tables, windowing
from ct_vlm.transforms.filters import Interpolation
from ct_vlm.transforms.geometry import GeometryPlan, foreground_box, plan_geometry
from ct_vlm.transforms.orientation import check_axcodes
from ct_vlm.transforms.preset_data import PRESET_SETTINGS
from ct_vlm.transforms.slabs import RESAMPLER_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ct_vlm.transforms.volume import Volume

LabelMethod = Literal["nearest", "majority"]
CropPad = Literal["center", "end"]
_GEOMETRY = ("axcodes", "spacing", "size", "crop_pad", "pad_hu", "interpolation", "foreground_hu")


@dataclass(frozen=True)
class CTPreset:
    """Everything between a volume in HU and the tensor a model reads.

    Two stages: :meth:`resample` changes geometry only and stays int16 HU (what a cache stores);
    :meth:`window` turns int16 HU into float channels, on whichever device the tensor is.

    Args:
        name: Name of the preset.
        axcodes: Directions of the array's axes; canonical unless the weights need another order.
        spacing: Target voxel size in mm in the order of the axes; ``None`` (whole or an entry)
            keeps the volume's own.
        size: Target length of the axes. Without ``spacing`` the volume is resized to it; with
            ``spacing`` it is cropped and padded to it. An entry ``None`` keeps the length.
        crop_pad: ``center``, or ``end`` to cut and fill behind the last voxel.
        pad_hu: HU of new voxels.
        interpolation: ``linear``, as published pipelines do (a reduction aliases); ``antialias``, a
            triangle filter where an axis is reduced; or ``area`` (box average).
            :func:`ct_vlm.transforms.filters.axis_filter` has the formulas.
        foreground_hu: If given, the volume is first cut to the box of voxels above this HU.
        windows: ``(low, high)`` HU of each window; one channel a window.
        norm: ``unit`` [0, 1], ``symmetric`` [-1, 1], ``affine`` (clipped HU plus ``offset``,
            divided by ``scale``), ``zscore`` or ``minmax`` (of each clipped volume).
        offset: For ``affine``.
        scale: For ``affine``.
        repeat: How often each channel is repeated (3 for encoders of colour pictures).
        notes: Origin, what is inferred, and what differs from the paper.

    **Shape:**
        - resample: ``Volume`` to ``(D, H, W)``.
        - window: ``(B, 1, D, H, W)`` to ``(B, C, D, H, W)``.

    Raises:
        ConfigError: If a value is unknown or of the wrong length.

    Example:
        >>> import torch
        >>> from ct_vlm.transforms import CTPreset
        >>> preset = CTPreset("bone", size=(4, 4, 4), windows=((-200, 800),))
        >>> preset.window(torch.full((1, 1, 4, 4, 4), 300, dtype=torch.int16)).unique().tolist()
        [0.5]
    """

    name: str
    axcodes: tuple[str, str, str] = CANONICAL_AXCODES
    spacing: tuple[float | None, ...] | None = None
    size: tuple[int | None, ...] | None = None
    crop_pad: CropPad = "center"
    pad_hu: int = -1024
    interpolation: Interpolation = "linear"
    foreground_hu: int | None = None
    windows: tuple[tuple[float, float], ...] = ((-1000.0, 1000.0),)
    norm: windowing.Norm = "unit"
    offset: float = 0.0
    scale: float = 1.0
    repeat: int = 1
    notes: str = ""

    def __post_init__(self) -> None:
        """Bring lists to tuples and check every value."""
        object.__setattr__(self, "axcodes", check_axcodes(self.axcodes))
        object.__setattr__(self, "spacing", self._triple("spacing", float))
        object.__setattr__(self, "size", self._triple("size", int))
        for name, kind in (("crop_pad", CropPad), ("interpolation", Interpolation), ("norm", windowing.Norm)):
            if getattr(self, name) not in get_args(kind):
                cause = f"Expected `{name}` to be one of {get_args(kind)}, but got {getattr(self, name)!r}."
                raise ConfigError(cause, "Choose one of them.")
        windows = tuple((float(low), float(high)) for low, high in self.windows)
        if not windows or any(low >= high for low, high in windows):
            cause = f"Expected `windows` as pairs (low, high) of HU, but got {self.windows}."
            raise ConfigError(cause, "Pass e.g. ((-1000, 200), (-160, 240)).")
        object.__setattr__(self, "windows", windows)
        if self.repeat < 1 or self.scale == 0:
            cause = (
                f"Expected `repeat` of at least 1 and a `scale` other than 0, but got {self.repeat} and {self.scale}."
            )
            raise ConfigError(cause, "Leave them at 1.")

    @property
    def channels(self) -> int:
        """Channels C of the windowed tensor."""
        return len(self.windows) * self.repeat

    def to_config(self) -> dict[str, Any]:
        """Return ``{"class_path": ..., "init_args": {...}}`` with JSON values only."""
        args = json.loads(json.dumps(asdict(self)))
        return {"class_path": "ct_vlm.transforms.presets.CTPreset", "init_args": args}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build a preset from :meth:`to_config` or from its ``init_args``.

        Raises:
            ConfigError: If a name is unknown.
        """
        args = dict(config.get("init_args", {}) if "class_path" in config else config)
        unknown = sorted(set(args) - {field.name for field in fields(cls)})
        if unknown or "name" not in args:
            cause = f"Unknown preset values {unknown}." if unknown else "The preset has no `name`."
            raise ConfigError(cause, f"A preset takes {', '.join(field.name for field in fields(cls))}.")
        try:
            return cls(**args)
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            cause = f"The preset {args.get('name')!r} cannot be built: {error}."
            raise ConfigError(cause, "Use the output of `to_config`.") from error

    def geometry_hash(self) -> str:
        """Return a short hash of what :meth:`resample` depends on: geometry and the resampler's version."""
        values = {name: getattr(self, name) for name in _GEOMETRY} | {"resampler": RESAMPLER_VERSION}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def plan(self, volume: Volume) -> GeometryPlan:
        """Return crop box, sizes and resulting spacing for a volume.

        Raises:
            ShapeError: If the volume is not in the preset's orientation.
        """
        if volume.axcodes != self.axcodes:
            cause = f"Preset {self.name!r} needs axes {self.axcodes}, but the volume has {volume.axcodes}."
            raise ShapeError(cause, "Load it with `load_volume(path, axcodes=preset.axcodes)`.")
        box = None if self.foreground_hu is None else foreground_box(volume.array, self.foreground_hu)
        return plan_geometry(volume.shape, volume.spacing, box, self.spacing, self.size)

    def resample(self, volume: Volume) -> NDArray[np.int16]:
        """Bring a volume to the preset's grid; still int16 HU.

        The volume's own array is returned if nothing changes.

        Args:
            volume: In the preset's orientation.

        Raises:
            ShapeError: If the volume is not in the preset's orientation.
        """
        plan = self.plan(volume)
        return plan.resample(volume.array, interpolation=self.interpolation, mode=self.crop_pad, value=self.pad_hu)

    def resample_labels(self, labels: NDArray[Any], volume: Volume, *, method: LabelMethod = "nearest") -> NDArray[Any]:
        """Bring a label map through the geometry of its volume.

        Args:
            labels: Label map on the volume's grid; voxels beyond it become 0.
            volume: The volume that the labels belong to.
            method: ``nearest`` voxel, or ``majority`` of the exact volume that each label fills of
                a target voxel (:func:`ct_vlm.transforms.label_vote.resample_majority`).

        Raises:
            ShapeError: If labels and volume differ in shape.
            ConfigError: If the method is unknown.
        """
        if method not in get_args(LabelMethod):
            cause = f"Expected `method` to be one of {get_args(LabelMethod)}, but got {method!r}."
            raise ConfigError(cause, "Choose one of them.")
        if labels.shape != volume.shape:
            cause = f"Label map {labels.shape} and volume {volume.shape} (`{volume.provenance.path}`) differ in shape."
            raise ShapeError(cause, "Resample the labels to the volume's grid first.")
        return self.plan(volume).resample(labels, interpolation=method, mode=self.crop_pad, value=0)

    def resampled_spacing(self, volume: Volume) -> tuple[float, float, float]:
        """Return the voxel size in mm after :meth:`resample`, in the order of the axes."""
        return self.plan(volume).spacing

    def window(self, image: Tensor) -> Tensor:
        """Turn HU into normalised float channels on the tensor's device.

        Args:
            image: HU, int16 or float, ``(B, 1, D, H, W)``.

        Raises:
            ShapeError: If the tensor has another rank or channel count.
        """
        if image.ndim != 5 or image.shape[1] != 1:
            cause = f"Expected HU as (B, 1, D, H, W), but got {tuple(image.shape)}."
            raise ShapeError(cause, "Add the batch and channel axes; window a volume only once.")
        if self._is_looked_up(image):
            return self._look_up(image)
        result = windowing.apply_windows(image, self.windows, self.norm, offset=self.offset, scale=self.scale)
        return result.repeat_interleave(self.repeat, dim=1) if self.repeat > 1 else result

    def _is_looked_up(self, image: Tensor) -> bool:
        """Tell whether a table gives the window's values faster than arithmetic."""
        import torch  # not at the top: processes that only change geometry do without

        # a table is made of 2**16 values; symbolic tensors of a compiler are another class
        plain = type(image) is torch.Tensor and image.device.type == "cpu" and image.dtype == torch.int16
        pays = self.norm in window_tables.POINTWISE and image.numel() > 2**16
        return plain and pays and not torch.compiler.is_compiling()

    def _look_up(self, image: Tensor) -> Tensor:
        """Return the windows of volumes on a CPU."""
        import torch

        tables = window_tables.window_tables(self.windows, self.norm, self.offset, self.scale)
        shape = (len(image), len(tables) * self.repeat, *image.shape[2:])
        out = torch.empty(shape, dtype=torch.float32)
        for hu, windowed in zip(image[:, 0].contiguous(), out, strict=True):
            window_tables.look_up(hu.numpy(), tables, self.repeat, windowed.numpy())
        return out

    def _triple(self, name: str, kind: type) -> tuple[Any, ...] | None:
        """Return a setting as three positive values or ``None`` entries."""
        value = getattr(self, name)
        if value is None:
            return None
        if isinstance(value, int | float):
            value = (value,) * 3
        items = tuple(None if item is None else kind(item) for item in value)
        if len(items) != 3 or any(item is not None and not item > 0 for item in items):
            cause = f"Expected `{name}` as three positive values (D, H, W), but got {value}."
            raise ConfigError(cause, "Pass three values, or None to keep the volume's own.")
        return items


PRESETS: dict[str, CTPreset] = {settings["name"]: CTPreset(**settings) for settings in PRESET_SETTINGS}
"""Name to preset."""


def list_presets() -> list[str]:
    """Return the names that :func:`get_preset` knows.

    Example:
        >>> from ct_vlm.transforms import list_presets
        >>> "uvlm" in list_presets()
        True
    """
    return sorted(PRESETS)


def get_preset(preset: str | CTPreset | Mapping[str, Any]) -> CTPreset:
    """Return a preset by name, from its config, or as it is.

    Args:
        preset: A name, a :class:`CTPreset`, or what ``to_config`` returned.

    Raises:
        ConfigError: If the name or a value is unknown.

    Example:
        >>> from ct_vlm.transforms import get_preset
        >>> get_preset("ct_clip").spacing
        (1.5, 0.75, 0.75)
    """
    if isinstance(preset, CTPreset):
        return preset
    if not isinstance(preset, str):
        return CTPreset.from_config(preset)
    if preset not in PRESETS:
        cause = f"Unknown preset {preset!r}."
        raise ConfigError(cause, f"Use one of {', '.join(list_presets())}, or pass a CTPreset.")
    return PRESETS[preset]
