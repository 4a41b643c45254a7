"""Settings of video inputs, read from the folder of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.encoders.video_inputs import InternVLVideoInputs, QwenVideoInputs
from ct_vlm.errors import CheckpointError

if TYPE_CHECKING:
    from ct_vlm.encoders.video_inputs import Sampling

_FILES = {
    "video": ("video_preprocessor_config.json", "video_processor"),
    "image": ("preprocessor_config.json", "image_processor"),
}
_SAME_NAMES = ("patch_size", "merge_size", "temporal_patch_size")
_QWEN3: dict[str, Any] = {
    "pixel_limit": "film",
    "min_pixels": 128 * 32 * 32,
    "max_pixels": 768 * 32 * 32,
    "mean": (0.5,) * 3,
    "std": (0.5,) * 3,
}
"""What ``Qwen3VLVideoProcessor`` takes where a checkpoint says nothing."""


def read_video_inputs(folder: str | Path, sampling: Sampling | None = None) -> QwenVideoInputs | InternVLVideoInputs:
    """Return the inputs that a checkpoint's processor files and config ask for.

    Qwen: patches, pixel limits, mean and deviation of the video processor. InternVL: size, mean and
    deviation of the *image* processor, which are those of the encoder; video processors of some
    checkpoints say otherwise.

    Args:
        folder: A checkpoint of transformers, with ``config.json``.
        sampling: Which slices become frames; the class's default if None.

    Raises:
        CheckpointError: If the folder holds no such checkpoint, or a file cannot be read.

    Example:
        >>> import json, pathlib, tempfile
        >>> from ct_vlm.encoders import read_video_inputs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "config.json").write_text('{"model_type": "qwen2_5_vl"}')
        ...     values = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14}
        ...     _ = pathlib.Path(folder, "preprocessor_config.json").write_text(json.dumps(values))
        ...     read_video_inputs(folder).max_pixels
        12845056
    """
    root = Path(folder)
    config = _read(root / "config.json")
    kind = config.get("model_type", "")
    options: dict[str, Any] = {} if sampling is None else {"sampling": sampling}
    if kind == "internvl":
        return InternVLVideoInputs(**options | _internvl(config, _processor(root, "image")))
    if kind in {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}:
        settings = _processor(root, "video") or _processor(root, "image")
        defaults = _QWEN3 if kind == "qwen3_vl" else {}
        return QwenVideoInputs(**options | defaults | _qwen(config, settings))
    cause = f"`{root / 'config.json'}` has the model type {kind!r}."
    raise CheckpointError(
        cause, "Pass a folder of Qwen2-VL, Qwen2.5-VL, Qwen3-VL or InternVL (in transformers' format)."
    )


def _processor(root: Path, kind: str) -> dict[str, Any]:
    """Return a processor's settings, from its own file or the common one; empty if there is neither."""
    name, key = _FILES[kind]
    if (root / name).is_file():
        return _read(root / name)
    if (root / "processor_config.json").is_file():
        return dict(_read(root / "processor_config.json").get(key) or {})
    return {}


def _qwen(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return arguments from Qwen's settings; what they lack comes from the vision config."""
    vision = config.get("vision_config") or {}
    values = vision | {"merge_size": vision.get("spatial_merge_size")} | settings
    size = settings.get("size") or {}
    limits = {
        "min_pixels": settings.get("min_pixels") or size.get("shortest_edge"),
        "max_pixels": settings.get("max_pixels") or size.get("longest_edge"),
    }
    found = {name: _first(values[name]) for name in _SAME_NAMES if values.get(name)}
    return found | {name: value for name, value in limits.items() if value} | _colours(settings)


def _internvl(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return arguments from InternVL's settings; sizes come from the vision config."""
    vision = config.get("vision_config") or {}
    first = {name: _first(vision[name]) for name in ("image_size", "patch_size") if vision.get(name)}
    found = {"size" if name == "image_size" else name: value for name, value in first.items()}
    if ratio := config.get("downsample_ratio"):
        found["downsample"] = round(1 / ratio)
    return found | _colours(settings)


def _colours(settings: dict[str, Any]) -> dict[str, Any]:
    names = {"mean": "image_mean", "std": "image_std"}
    return {name: tuple(settings[key]) for name, key in names.items() if settings.get(key)}


def _first(value: Any) -> int:
    """Return a side of a square given as one number or two."""
    return int(value[0] if isinstance(value, list | tuple) else value)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cause = f"`{path}` cannot be read: {error}."
        raise CheckpointError(cause, "Pass a folder written by `save_pretrained` of transformers.") from error
    if not isinstance(value, dict):
        cause = f"`{path}` holds no settings."
        raise CheckpointError(cause, "Pass a folder written by `save_pretrained` of transformers.")
    return value
