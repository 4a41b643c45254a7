"""Ceilings are work over the shortest time, floors the work over the ceilings."""

from __future__ import annotations

import pytest
import torch

from benchmarks.ceilings import Ceiling, floor_ms, measure_ceiling


class _Clock:
    """Every call takes a millisecond more than the one before; the first timed one takes 1 ms."""

    name = "stand-in"

    def __init__(self) -> None:
        self.calls = 0

    def settle(self) -> None:
        self.calls += 1

    def mark(self) -> int:
        return 0

    def between(self, start: int, end: int) -> float:
        return float(self.calls)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ceilings_are_of_the_fastest_call(small_ceilings, dtype) -> None:
    found = measure_ceiling(torch.device("cpu"), dtype, _Clock())
    assert found.gflops == pytest.approx(2 * 16**3 / 1e-3 / 1e9)
    # the sixth to tenth call
    assert found.gbs == pytest.approx(4096 / 6e-3 / 1e9)


def test_floor_is_the_longer_of_work_and_traffic() -> None:
    ceiling = Ceiling(gflops=50, gbs=10)
    assert floor_ms({"flops": 10**8, "bytes": 10**6}, ceiling) == 2
    assert floor_ms({"flops": 0, "bytes": 10**8}, ceiling) == 10
