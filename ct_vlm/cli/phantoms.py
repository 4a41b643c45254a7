"""Write synthetic chest CTs with masks and reports, laid out like CT-RATE or RadGenome-ChestCT.

The same seed gives the same files in every process. `--layout radgenome` writes region and anatomy
masks and tables of region reports and questions. `--defects` adds the flaws of the public release:
for CT-RATE raw v1 values beside v2 HU twins, missing spacing and broken affines, for
RadGenome-ChestCT masks of another grid, empty and missing ones, blank and repeated rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.output import say
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm phantoms``."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write the tree into")
    parser.add_argument("--count", type=positive, default=100, metavar="N", help="number of scans (default 100)")
    parser.add_argument(
        "--layout", choices=("ct_rate", "radgenome"), default="ct_rate", help="folder layout (default ct_rate)"
    )
    parser.add_argument(
        "--shape",
        type=positive,
        nargs=3,
        default=(64, 64, 64),
        metavar=("D", "H", "W"),
        help="voxels (default 64 64 64)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole tree (default 0)")
    parser.add_argument("--defects", action="store_true", help="include the public release's known flaws")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default one a core; 0 uses this one)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Write the phantoms and say where they are."""
    from ct_vlm.phantoms import LAYOUTS

    manifest = LAYOUTS[args.layout](
        args.out,
        args.count,
        shape=tuple(args.shape),
        seed=args.seed,
        defects=args.defects,
        workers=args.workers,
        progress=not args.no_progress,
    )
    broken = f", {len(manifest.defects)} of them defective" if manifest.defects else ""
    say(f"{len(manifest.volumes)} volumes in {args.out}{broken}")
    return 0
