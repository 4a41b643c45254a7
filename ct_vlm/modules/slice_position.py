"""Where slices lie along the body, and sinusoidal embeddings of that place in mm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ct_vlm.features import Features


def sinusoidal_position(position: Tensor, dim: int, base: float = 10000.0) -> Tensor:
    """Return sines and cosines of places at ``dim / 2`` wavelengths, in turns.

    Entry ``2 i`` is ``sin(p / base ** (2 i / dim))`` and entry ``2 i + 1`` its cosine, computed in float32 at
    least: half precision cannot tell neighbouring slices apart.

    Args:
        position: Places, in any unit.
        dim: Width; even.
        base: Ratio of the longest to the shortest wavelength.

    Shape:
        - position: ``(...)``.
        - Output: ``(..., dim)``.

    Raises:
        ConfigError: If ``dim`` is odd.

    Example:
        >>> import torch
        >>> from ct_vlm.modules.slice_position import sinusoidal_position
        >>> sinusoidal_position(torch.tensor([0.0]), 4)
        tensor([[0., 1., 0., 1.]])

    References:
        Vaswani et al., "Attention is all you need", 2017.
    """
    if dim % 2:
        cause = f"Expected an even width of the position embedding, but got {dim}."
        raise ConfigError(cause, "Sines and cosines come in pairs.")
    place = position.to(torch.promote_types(position.dtype, torch.float32))
    exponent = torch.arange(0, dim, 2, device=place.device, dtype=place.dtype) / dim
    angle = place.unsqueeze(-1) / base**exponent
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def slice_positions(features: Features, batch: Mapping[str, Any] | None, valid: Tensor, *, reverse: bool) -> Tensor:
    """Return the distance of each slice in mm from the end of the body where zones begin.

    It comes from ``features.slice_position_mm``, or else from the batch's ``spacing``.

    Args:
        features: Of a slice encoder.
        batch: May hold ``spacing``, ``(B, 3)`` in mm.
        valid: Which slices are no padding.
        reverse: Whether zones begin at the last slice.

    Shape:
        - valid: ``(B, N)``.
        - Output: ``(B, N)``, 0 at the first slice; of no meaning at padding.

    Raises:
        ShapeError: If neither is there, or a position that is needed is not finite.
    """
    position = features.slice_position_mm
    spacing = None if batch is None else batch.get("spacing")
    if position is None and spacing is not None:
        steps = torch.arange(valid.shape[1], device=valid.device)
        position = steps * spacing[:, :1].to(valid.device)
    if position is None:
        cause = "There is no position of the slices: neither `features.slice_position_mm` nor `spacing` in the batch."
        raise ShapeError(
            cause, "Pass the spacing to the encoder or the batch, or build the zones with `position=None`."
        )
    position = position.to(valid.device)
    order = torch.arange(valid.shape[1], device=valid.device).expand(valid.shape)
    last = torch.where(valid, order, -1).amax(1) if reverse else torch.where(valid, order, valid.shape[1]).amin(1)
    relative = (position - position.gather(1, last.unsqueeze(1))).abs()
    return torch.where(valid, relative, torch.zeros_like(relative))
