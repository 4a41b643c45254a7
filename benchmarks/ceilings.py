"""What the machine can do at most, measured in the same run as what is held against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.clocks import Clock

REPEATS = 5
SIDE = {"cpu": 1024, "cuda": 8192}
READ = {"cpu": 2**28, "cuda": 2**30}


class Ceiling(NamedTuple):
    """Best speeds seen: a square matrix product, and reading memory (a sum, the fastest read found)."""

    gflops: float
    gbs: float


def measure_ceiling(device: torch.device, dtype: torch.dtype, clock: Clock) -> Ceiling:
    """Measure both ceilings in a data type."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    side = SIDE[kind]
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    product = torch.empty_like(left)
    multiply_ms = _best_ms(lambda: torch.mm(left, right, out=product), clock)
    memory = torch.ones(READ[kind] // dtype.itemsize, dtype=dtype, device=device)
    read_ms = _best_ms(memory.sum, clock)
    return Ceiling(2 * side**3 / multiply_ms / 1e6, memory.nbytes / read_ms / 1e6)


def _best_ms(call: Callable[[], object], clock: Clock) -> float:
    """Return the shortest time: a ceiling is what is possible, not what is usual."""
    call()
    times = []
    for _ in range(REPEATS):
        clock.settle()
        start = clock.mark()
        call()
        times.append(clock.between(start, clock.mark()))
    return min(times)


def floor_ms(work: Mapping[str, int], ceiling: Ceiling) -> float:
    """Return the shortest time that some operations and bytes can take.

    Example:
        >>> from benchmarks.ceilings import Ceiling, floor_ms
        >>> floor_ms({"flops": 10**9, "bytes": 10**9}, Ceiling(gflops=100.0, gbs=10.0))
        100.0
    """
    return max(work["flops"] / ceiling.gflops, work["bytes"] / ceiling.gbs) / 1e6
