"""What a model checks of its parts, and how it brings images to them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor, nn

    from ct_vlm.transforms import CTPreset


def check_levels(encoder: nn.Module, part: nn.Module, name: str) -> None:
    """Raise if a part was built for other encoder levels than the encoder has.

    Args:
        encoder: Encoder; one without ``level_dims`` is not compared.
        part: Connector, head or decoder; one without ``level_dims`` is not compared.
        name: What to call the part.

    Raises:
        ConfigError: If the channels of the levels differ.
    """
    have: Any = getattr(encoder, "level_dims", None)
    want: Any = getattr(part, "level_dims", None)
    if have is None or want is None or tuple(have) == tuple(want):
        return
    built = f"`{name}` ({type(part).__name__}) is built for levels of {tuple(want)} channels"
    cause = f"{built}, but the encoder ({type(encoder).__name__}) has {tuple(have)}."
    raise ConfigError(cause, "Pass it `encoder.level_dims`.")


def floating_dtype(module: nn.Module) -> torch.dtype | None:
    """Return the dtype of a module's first floating-point parameter; None without one.

    A module that wants its inputs in another type says so by an attribute ``input_dtype``.

    Args:
        module: Encoder, connector or decoder.

    Example:
        >>> import torch
        >>> from ct_vlm.models.inputs import floating_dtype
        >>> floating_dtype(torch.nn.Linear(2, 2).bfloat16())
        torch.bfloat16
    """
    wanted: torch.dtype | None = getattr(module, "input_dtype", None)
    return wanted or next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def scan_geometry(encoder: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a batch knows of its volumes' geometry, as far as an encoder takes it.

    Args:
        encoder: Its ``forward`` may take ``spacing`` and ``padding_mask``.
        batch: May hold them.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> from ct_vlm.models.inputs import scan_geometry
        >>> scan_geometry(ResidualUNetEncoder(features=(4,), blocks=(1,), strides=(1,)), {"spacing": torch.ones(1, 3)})
        {}
    """
    taken = inspect.signature(encoder.forward).parameters
    return {key: batch[key] for key in ("spacing", "padding_mask") if key in taken and batch.get(key) is not None}


def model_image(image: Tensor, encoder: nn.Module, preset: CTPreset | None = None) -> Tensor:
    """Return a batch's volumes as the encoder reads them.

    Args:
        image: Windowed volumes, or integer HU.
        encoder: Encoder; volumes get the dtype of its weights.
        preset: Windows integer HU.

    Shape:
        - image: ``(B, C, D, H, W)``, or ``(B, 1, D, H, W)`` in HU.
        - Output: ``(B, C, D, H, W)``.

    Raises:
        ShapeError: If the volumes are integer HU and there is no preset.
    """
    if not image.is_floating_point():
        if preset is None:
            cause = f"Expected windowed float volumes, but got {image.dtype}."
            raise ShapeError(cause, "Window the HU values with `preset.window` first, or use a data module.")
        image = preset.window(image)
    return image.to(floating_dtype(encoder) or image.dtype)
