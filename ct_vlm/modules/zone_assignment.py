"""Which slices belong to which zone: by count along the body, or by masks.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (eq. 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import ShapeError
from ct_vlm.ops.zone_attention import ZoneLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class ZoneRows:
    """The slices of every zone of a batch, packed for :func:`ct_vlm.ops.zone_attention.zone_attention_block`.

    Args:
        rows: Places within the flattened slices ``(B * N)``, zone after zone; a slice may stand in
            several zones.
        layout: Where zones begin and end.
        present: Whether a zone has a slice of its own.

    Shape:
        - rows: ``(T,)``.
        - present: ``(B, Z)``.
    """

    rows: Tensor
    layout: ZoneLayout
    present: Tensor

    def repeat(self, cells: int) -> ZoneRows:
        """Return the same zones where every slice is ``cells`` tokens, one slice after the other."""
        if cells == 1:
            return self
        inner = torch.arange(cells, device=self.rows.device)
        bounds = tuple(bound * cells for bound in self.layout.bounds)
        rows = (self.rows.unsqueeze(1) * cells + inner).flatten()
        return ZoneRows(rows, ZoneLayout(bounds, self.layout.num_zones), self.present)


def zone_of_slices(num_slices: int, num_zones: int) -> Tensor:
    """Return the zone of each slice: ``(i * Z) // N``.

    Args:
        num_slices: Slices N, from the first zone's end of the body.
        num_zones: Zones Z.

    Example:
        >>> from ct_vlm.modules.zone_assignment import zone_of_slices
        >>> zone_of_slices(7, 3).tolist()
        [0, 0, 0, 1, 1, 2, 2]
    """
    return torch.arange(num_slices) * num_zones // max(num_slices, 1)


def count_zones(valid: Tensor, num_zones: int, *, reverse: bool = False, borrow: bool = True) -> ZoneRows:
    """Cut every volume into zones of equally many slices.

    Args:
        valid: Which slices are no padding.
        num_zones: Zones Z.
        reverse: Whether the first zone is at the last slice.
        borrow: Whether a zone without slices, of a volume with fewer slices than zones, takes the one
            that lies nearest its middle: slice ``min((2 k + 1) N // (2 Z), N - 1)`` for zone k.

    Shape:
        - valid: ``(B, N)``.

    Raises:
        ShapeError: If a volume has no slice.

    Example:
        >>> import torch
        >>> from ct_vlm.modules.zone_assignment import count_zones
        >>> zones = count_zones(torch.tensor([[True, True, False]]), num_zones=4)
        >>> zones.rows.tolist(), zones.present.tolist()
        ([0, 0, 1, 1], [[True, False, True, False]])
    """
    lengths = _lengths(valid)
    places = (valid.flip(1) if reverse else valid).flatten().nonzero().flatten()
    if reverse:
        width = valid.shape[1]
        places = places // width * width + (width - 1 - places % width)
    layout = ZoneLayout.even(lengths, num_zones)
    filled = torch.tensor(layout.lengths).view(len(lengths), num_zones) > 0
    present = filled.to(valid.device)
    if not borrow or not layout.has_empty:
        return ZoneRows(places, layout, present)
    order, bounds = _borrowed(lengths, layout)
    return ZoneRows(places[torch.tensor(order, device=places.device)], ZoneLayout(bounds, num_zones), present)


def mask_zones(member: Tensor, valid: Tensor) -> ZoneRows:
    """Take zones as they are given; a slice may be in several of them, or in none.

    Args:
        member: Which slices a zone holds.
        valid: Which slices are no padding.

    Shape:
        - member: ``(B, Z, N)``; valid: ``(B, N)``.

    Raises:
        ShapeError: If the shapes do not fit, or a volume has no slice.

    Example:
        >>> import torch
        >>> from ct_vlm.modules.zone_assignment import mask_zones
        >>> member = torch.tensor([[[True, True, False], [False, True, False]]])
        >>> zones = mask_zones(member, torch.ones(1, 3, dtype=torch.bool))
        >>> zones.rows.tolist(), zones.layout.bounds
        ([0, 1, 1], (0, 2, 3))
    """
    if member.ndim != 3 or (member.shape[0], member.shape[2]) != tuple(valid.shape):
        cause = f"Expected zones as (B, Z, N) for slices {tuple(valid.shape)}, but got {tuple(member.shape)}."
        raise ShapeError(cause, "Give every zone one flag a slice.")
    _lengths(valid)
    inside = member.bool() & valid.unsqueeze(1)
    batch, _, place = inside.nonzero(as_tuple=True)
    bounds = accumulate(inside.sum(2).flatten().tolist(), initial=0)
    layout = ZoneLayout(tuple(bounds), member.shape[1])
    return ZoneRows(batch * valid.shape[1] + place, layout, inside.any(2))


def _lengths(valid: Tensor) -> list[int]:
    """Return the number of slices of each volume."""
    lengths: list[int] = valid.sum(1).tolist()
    if 0 in lengths:
        cause = f"Sample {lengths.index(0)} of the batch has no slice: all of it is padding."
        raise ShapeError(cause, "Leave it out, or check `padding_mask` (True where a slice is padding).")
    return lengths


def _borrowed(lengths: Sequence[int], layout: ZoneLayout) -> tuple[list[int], tuple[int, ...]]:
    """Return the packed rows and bounds with one borrowed slice in every empty zone."""
    zones, start, bounds = layout.num_zones, 0, [0]
    order: list[int] = []
    for volume, length in enumerate(lengths):
        for zone in range(zones):
            first, stop = layout.bounds[volume * zones + zone], layout.bounds[volume * zones + zone + 1]
            near = start + min((2 * zone + 1) * length // (2 * zones), length - 1)
            order.extend(range(first, stop) if stop > first else [near])
            bounds.append(len(order))
        start += length
    return order, tuple(bounds)
