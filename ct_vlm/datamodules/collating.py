"""Samples to a batch: tensors stacked, numbers to tensors, strings and dicts listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ct_vlm.errors import DatasetError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch of the items of a data set.

    Tensors are stacked, numbers become a tensor, everything else becomes a list. All items need
    the same keys.

    Args:
        items: Samples.

    Raises:
        DatasetError: If keys differ between items.
        ShapeError: If tensors of one key differ in shape.

    Example:
        >>> import torch
        >>> from ct_vlm.datamodules import collate
        >>> batch = collate([{"x": torch.zeros(2), "age": 50.0, "report": text} for text in ("a", "b")])
        >>> batch["x"].shape, batch["age"].tolist(), batch["report"]
        (torch.Size([2, 2]), [50.0, 50.0], ['a', 'b'])
    """
    keys = list(items[0])
    for item in items[1:]:
        if set(item) != set(keys):
            cause = f"Samples of one batch differ in their keys: {sorted(set(item) ^ set(keys))}."
            raise DatasetError(cause, "Give every sample the same keys, with blank values where unknown.")
    return {key: _join(key, [item[key] for item in items]) for key in keys}


def _join(key: str, values: list[Any]) -> Any:
    """Join the values of one key."""
    first = values[0]
    if isinstance(first, Tensor):
        shapes = {tuple(value.shape) for value in values}
        if len(shapes) > 1:
            cause = f"Samples of one batch differ in the shape of `{key}`: {sorted(shapes)}."
            raise ShapeError(cause, "Use a preset with a fixed `size`, or a batch size of 1.")
        return default_collate(values)  # in a reading process, straight into the memory that is handed over
    if isinstance(first, bool | int | float):
        return torch.tensor(values)
    return values
