"""Handing trained parts from one model to another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct_vlm.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn


@dataclass
class TransferReport:
    """Which tensors moved.

    Args:
        moved: Target keys that received a tensor of the source.
        num_parameters: Number of values moved.
    """

    moved: list[str] = field(default_factory=list)
    num_parameters: int = 0

    def __str__(self) -> str:
        """Return one readable line."""
        shown = ", ".join(self.moved[:3]) + (", ..." if len(self.moved) > 3 else "")
        return f"moved {len(self.moved)} tensors ({self.num_parameters:,} values): {shown}"


def transfer(source: nn.Module, target: nn.Module) -> TransferReport:
    """Copy every tensor of one part into another of the same structure.

    This is the one call that hands an encoder or a head from stage to stage. Nothing is skipped
    in silence: a key that is missing on either side, or a shape that differs, is an error, and the
    target is then left untouched.

    Args:
        source: Trained part, e.g. ``stage1.encoder``.
        target: Part to fill, e.g. ``stage2.encoder``.

    Returns:
        The moved keys.

    Raises:
        CheckpointError: If keys or shapes differ.

    Example:
        >>> from torch import nn
        >>> from ct_vlm.models import transfer
        >>> str(transfer(nn.Linear(2, 3), nn.Linear(2, 3)))
        'moved 2 tensors (9 values): weight, bias'
    """
    have, want = source.state_dict(), target.state_dict()
    missing = sorted(set(want) - set(have))
    unexpected = sorted(set(have) - set(want))
    shared = [key for key in want if key in have and have[key].shape != want[key].shape]
    mismatched = [f"{key} {tuple(have[key].shape)} -> {tuple(want[key].shape)}" for key in shared]
    if missing or unexpected or mismatched:
        cause = f"The parts do not fit: missing {missing[:5]}, unexpected {unexpected[:5]}, shapes {mismatched[:5]}."
        raise CheckpointError(cause, "Build both stages with the same encoder settings.")
    target.load_state_dict(have, strict=True)
    return TransferReport(list(want), sum(tensor.numel() for tensor in want.values()))
