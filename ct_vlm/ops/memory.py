"""Large host buffers without the cost of their first touch."""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 32 * 2**20
"""Bytes from which the allocator maps fresh pages at every call (the upper limit of glibc's threshold)."""


def empty_large(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialised ``(rows, columns)`` tensor, on huge pages where that pays.

    A gradient as large as a feature map is written once. On fresh 4 KiB pages most of that time
    is page faults; 2 MiB pages, asked for by ``madvise``, take about a quarter of it. The tensor owns
    the mapping and frees it. The first call of a process may take long where the kernel has to
    bring free memory together; the next ones reuse those pages.

    Args:
        rows: Size of the first axis.
        columns: Size of the second axis.
        dtype: Element type.
        device: Where; only the CPU's memory is mapped here.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.memory import empty_large
        >>> empty_large(2, 3, torch.float32, torch.device("cpu")).shape
        torch.Size([2, 3])
    """
    size = math.prod((rows, columns, dtype.itemsize))
    if device.type != "cpu" or size < SMALLEST or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(rows, columns, dtype=dtype, device=device)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # a kernel without huge pages refuses: ordinary ones are as correct
    with contextlib.suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(rows, columns)
