"""Memory that a call needs beside what was there before it, its results included."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ct_vlm.ops.memory import release_memory

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
_PROCESS = Path("/proc/self")


def extra_peak_mib(call: Callable[[], object], device: torch.device) -> float | None:
    """Run a call and return how far memory rose above where it was.

    On the CPU this is the growth of the resident set, whose high-water mark Linux resets on request.
    It sees what every library allocates, and is exact to about a tenth of a MiB once the call has
    run before. On a GPU it is what PyTorch's allocator hands out.

    Args:
        call: What to run; warm it up before, or one-time costs count.
        device: Where it allocates.

    Returns:
        MiB, or None where the system keeps no such mark (other than Linux).
    """
    gc.collect()
    if device.type == "cuda":
        return _extra_cuda(call)
    if not _reset_peak():
        return None
    before = _status_mib("VmRSS")
    result = call()
    after = _status_mib("VmHWM")
    del result
    return max(after - before, 0.0)


def _extra_cuda(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    after = torch.cuda.max_memory_allocated()
    del result
    return (after - before) / MIB


def _reset_peak() -> bool:
    """Give freed memory back, so that a call cannot take it unseen, and set the mark to the present size."""
    release_memory()
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_mib(key: str) -> float:
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    msg = f"no {key} in {_PROCESS / 'status'}"
    raise RuntimeError(msg)
