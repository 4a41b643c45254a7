"""Bringing slice embeddings of several batches to one number of slices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ct_vlm.features import Features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def pad_to_longest(batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pad the slice embeddings of all batches to the most slices of any, so that volumes can change places.

    Args:
        batches: Batches whose ``features`` are one embedding a slice; others stay as they are.

    Example:
        >>> import torch
        >>> from ct_vlm.callbacks.padding import pad_to_longest
        >>> from ct_vlm.features import Features
        >>> batches = [{"features": Features([torch.ones(1, n, 2)], [(n, 1, 1)])} for n in (3, 5)]
        >>> [batch["features"].padding_mask.sum().item() for batch in pad_to_longest(batches)]
        [2, 0]
    """
    lengths = [_slices(batch) for batch in batches]
    if None in lengths or len(set(lengths)) < 2:
        return [dict(batch) for batch in batches]
    longest = max(length for length in lengths if length is not None)
    return [{**batch, "features": _padded(batch["features"], longest)} for batch in batches]


def _slices(batch: Mapping[str, Any]) -> int | None:
    """Return the number of slices of a batch of slice embeddings, else None."""
    features = batch.get("features")
    if not isinstance(features, Features) or any(grid[1:] != (1, 1) for grid in features.grids):
        return None
    return features.grids[-1][0]


def _padded(features: Features, longest: int) -> Features:
    more = longest - features.grids[-1][0]
    level = features.levels[-1]
    mask = features.padding_mask
    if mask is None:
        mask = torch.zeros(level.shape[:2], dtype=torch.bool, device=level.device)
    position = features.slice_position_mm
    return replace(
        features,
        levels=[F.pad(part, (0, 0, 0, more)) for part in features.levels],
        grids=[(longest, 1, 1)] * len(features.grids),
        slice_position_mm=None if position is None else F.pad(position, (0, more)),
        padding_mask=F.pad(mask, (0, more), value=True),
    )
