"""Large host buffers that are used again, so that their pages are touched for the first time only once."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 32 * 2**20
"""Bytes from which the C library maps fresh pages at every call and gives them back at once."""
LIMIT = 2**30
"""Most bytes kept for the next call."""

# size to kept memory; single operations on lists and dicts only, because backward passes run in
# threads of their own and a finalizer may run between any two statements
_free: dict[int, list[Tensor]] = {}


def empty_large(*shape: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Return an uninitialised tensor; large ones on the CPU may lie in memory of a former one.

    A gradient as large as a feature map is written once, and on fresh memory most of that time is
    page faults (70 of 80 ms for 128 MiB). As torch does on GPUs, memory of a tensor that nothing
    refers to any more is kept and handed out again, up to ``LIMIT`` bytes; :func:`release_memory`
    gives it back to the system.

    Args:
        *shape: Sizes.
        dtype: Element type.
        device: Where; only the CPU's memory is kept here.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.memory import empty_large
        >>> empty_large(2, 3, dtype=torch.float32).shape
        torch.Size([2, 3])
    """
    size = math.prod(shape) * dtype.itemsize
    if torch.device(device).type != "cpu" or size < SMALLEST:
        return torch.empty(shape, dtype=dtype, device=device)
    owner = _take(size)
    # the tensor refers to this view of the memory and to nothing else: when the last tensor that
    # shares the memory is gone, so is the view, and its finalizer keeps the memory for the next call
    view = memoryview(owner.numpy().data)
    weakref.finalize(view, _keep, owner).atexit = False
    return torch.frombuffer(view, dtype=dtype).view(shape)


def release_memory() -> int:
    """Give the memory that is kept for the next call back to the system; return its bytes."""
    total = _kept_bytes()
    _free.clear()
    return total


def _kept_bytes() -> int:
    return sum(size * len(kept) for size, kept in list(_free.items()))


def _take(size: int) -> Tensor:
    """Return kept bytes of exactly this size, or new ones."""
    try:
        return _free[size].pop()
    except (KeyError, IndexError):
        return torch.empty(size, dtype=torch.uint8)


def _keep(owner: Tensor) -> None:
    """Keep bytes, and let go of others beyond the limit, those of the longest known size first."""
    _free.setdefault(owner.numel(), []).append(owner)
    while _kept_bytes() > LIMIT:
        for size, kept in list(_free.items()):
            if kept:
                kept.pop()
                break
            _free.pop(size, None)
