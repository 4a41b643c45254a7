"""How fast phantoms are made: ``python -m benchmarks.phantoms``.

Counts processor time of one process, so that other work on the machine changes little. Writing
files is not part of it.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.cli.types import positive
from ct_vlm.phantoms import describe_phantom, make_phantom

if TYPE_CHECKING:
    from collections.abc import Sequence

SHAPES = ((64, 64, 64), (48, 64, 64), (256, 256, 256))


class Rate(NamedTuple):
    """Phantoms a second on one core, drawn and described only."""

    shape: tuple[int, int, int]
    phantoms: int
    drawn: float
    described: float


def measure(shape: tuple[int, int, int], budget_s: float, most: int = 1000) -> Rate:
    """Make phantoms of consecutive seeds until a budget of processor time is spent.

    Args:
        shape: Grid size (D, H, W).
        budget_s: Processor seconds for the drawing; at least one phantom is made.
        most: Largest number of phantoms.

    Returns:
        The rates.
    """
    make_phantom(0, shape)  # imports and caches are not what is measured
    start = time.process_time()
    count = 0
    while count == 0 or (count < most and time.process_time() - start < budget_s):
        count += 1
        make_phantom(count, shape)
    drawn = time.process_time() - start
    start = time.process_time()
    for seed in range(1, count + 1):
        describe_phantom(seed, shape)
    described = time.process_time() - start
    return Rate(shape, count, _rate(count, drawn), _rate(count, described))


def _rate(count: int, seconds: float) -> float:
    """Return a rate; a clock too coarse to see the work gives infinity."""
    return count / seconds if seconds > 0 else float("inf")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each grid and print one line about it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phantoms", description=__doc__)
    parser.add_argument(
        "--shape", type=positive, nargs=3, action="append", metavar=("D", "H", "W"), help="grid; may be repeated"
    )
    parser.add_argument("--budget", type=float, default=10.0, metavar="S", help="processor seconds a grid (default 10)")
    parser.add_argument("--most", type=positive, default=1000, metavar="N", help="phantoms a grid (default 1000)")
    args = parser.parse_args(argv)
    print(f"{'grid':>15} {'phantoms':>9} {'drawn/s/core':>13} {'described/s/core':>17}")
    for depth, height, width in args.shape or SHAPES:
        rate = measure((depth, height, width), args.budget, args.most)
        grid = "x".join(map(str, rate.shape))
        print(f"{grid:>15} {rate.phantoms:>9} {rate.drawn:>13.2f} {rate.described:>17.1f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
