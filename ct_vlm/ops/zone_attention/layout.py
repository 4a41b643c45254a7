"""Where the zones of a packed batch of ragged volumes lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

import torch

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class Run(NamedTuple):
    """Neighbouring zones of one volume that have the same length: a batch of matrices, without a copy.

    Args:
        first: Index of the first zone, counted over the whole batch.
        zones: Number of zones.
        start: First packed row.
        length: Rows a zone.
    """

    first: int
    zones: int
    start: int
    length: int

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + self.zones * self.length


@dataclass(frozen=True)
class ZoneLayout:
    """Cumulative bounds of the zones of every volume of a packed batch.

    The rows of all volumes lie one after the other, and zone ``i`` of the batch holds the rows
    ``bounds[i]`` to ``bounds[i + 1] - 1``; volume ``b`` has the zones ``b * Z`` to ``b * Z + Z - 1``.
    The numbers live on the host, so that no op waits for the device to learn a size.

    Args:
        bounds: ``B * Z + 1`` numbers that start with 0 and do not fall; equal neighbours are an empty zone.
        num_zones: Zones a volume, Z.

    Raises:
        ShapeError: If the bounds are not that.

    Example:
        >>> from ct_vlm.ops.zone_attention import ZoneLayout
        >>> ZoneLayout.even([6, 3], num_zones=4).bounds
        (0, 2, 3, 5, 6, 7, 8, 9, 9)
    """

    bounds: tuple[int, ...]
    num_zones: int
    _on_device: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the bounds."""
        object.__setattr__(self, "bounds", tuple(int(bound) for bound in self.bounds))
        rising = all(a <= b for a, b in zip(self.bounds, self.bounds[1:], strict=False))
        if self.num_zones < 1 or not self.bounds or self.bounds[0] != 0 or not rising:
            cause = f"Expected zone bounds that start with 0 and do not fall, but got {self.bounds[:8]}..."
            raise ShapeError(cause, "Pass the cumulative number of rows, one bound more than zones.")
        if (len(self.bounds) - 1) % self.num_zones != 0:
            cause = f"Expected a multiple of `num_zones`={self.num_zones} zones, but got {len(self.bounds) - 1}."
            raise ShapeError(cause, "Give every volume the same number of zones; zones may be empty.")

    @classmethod
    def even(cls, lengths: Sequence[int], num_zones: int) -> Self:
        """Cut every volume into zones of equally many rows: row ``i`` of ``N`` is in zone ``i * Z // N``.

        A volume with fewer rows than zones has empty zones.

        Args:
            lengths: Rows of every volume.
            num_zones: Zones a volume.

        References:
            Ker-VLJEPA-3B, 2026, https://arxiv.org/abs/2603.23308, Eq. 2.
        """
        bounds, start = [0], 0
        for length in lengths:
            # the first row i with i * Z // N >= k is ceil(k * N / Z)
            bounds.extend(start - (-zone * length // num_zones) for zone in range(1, num_zones + 1))
            start += length
        return cls(tuple(bounds), num_zones)

    @property
    def num_volumes(self) -> int:
        """Volumes of the batch, B."""
        return (len(self.bounds) - 1) // self.num_zones

    @property
    def total(self) -> int:
        """Packed rows of the batch, T."""
        return self.bounds[-1]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Rows of every zone of the batch."""
        return tuple(stop - start for start, stop in zip(self.bounds, self.bounds[1:], strict=False))

    @cached_property
    def longest(self) -> int:
        """Rows of the longest zone."""
        return max(self.lengths, default=0)

    @cached_property
    def has_empty(self) -> bool:
        """Whether any zone has no row."""
        return 0 in self.lengths

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Neighbouring zones of equal length, in order."""
        found: list[Run] = []
        for zone, (start, length) in enumerate(zip(self.bounds, self.lengths, strict=False)):
            if found and zone % self.num_zones and found[-1].length == length:
                found[-1] = found[-1]._replace(zones=found[-1].zones + 1)
            else:
                found.append(Run(zone, 1, start, length))
        return tuple(found)

    def offsets(self, device: torch.device) -> Tensor:
        """Return the bounds as int32 on a device; copied there once.

        **Shape**: ``(B * Z + 1,)``.
        """
        return self._cached("offsets", device, lambda: torch.tensor(self.bounds, dtype=torch.int32))

    def filled(self, device: torch.device, num_queries: int) -> Tensor:
        """Return for every query whether its zone has a row; **shape** ``(B * Z * Q,)``, bool."""

        def make() -> Tensor:
            return (torch.tensor(self.lengths) > 0).repeat_interleave(num_queries)

        return self._cached(f"filled {num_queries}", device, make)

    def rows(self, device: torch.device) -> Tensor:
        """Return the packed row of every place of zones padded to the longest; padding is row 0.

        **Shape**: ``(B * Z, longest)``, int64.
        """
        return self._cached("rows", device, lambda: self._places()[0])

    def valid(self, device: torch.device) -> Tensor:
        """Return which places of :meth:`rows` hold a row; **shape** ``(B * Z, longest)``, bool."""
        return self._cached("valid", device, lambda: self._places()[1])

    def _places(self) -> tuple[Tensor, Tensor]:
        places = torch.arange(self.longest)
        valid = places < torch.tensor(self.lengths).unsqueeze(1)
        rows = torch.tensor(self.bounds[:-1]).unsqueeze(1) + places
        return rows.where(valid, 0), valid

    def _cached(self, name: str, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        key = f"{name} {device}"
        if key not in self._on_device:
            # a tensor made in inference mode could not be saved for a later backward
            with torch.inference_mode(mode=False):
                self._on_device[key] = make().to(device)
        return self._on_device[key]
