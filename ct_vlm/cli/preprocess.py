"""Fill the cache of preprocessed volumes, with all cores.

Volumes become int16 HU on the preset's grid, one uncompressed file each (fast to read). An interrupted run goes on
where it stopped; a bad file is reported with its cause, and the others go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.output import complain, say

if TYPE_CHECKING:
    import argparse

SPLITS = ("train", "valid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm preprocess``."""
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder that holds CT-RATE's dataset/")
    parser.add_argument("--preset", required=True, metavar="NAME", help="preprocessing; see `ct-vlm list presets`")
    parser.add_argument("--cache-dir", type=Path, required=True, metavar="DIR", help="where preprocessed volumes go")
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits (default: both)")
    parser.add_argument("--version", choices=("auto", "v1", "v2"), default="auto", help="release (default auto)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default 0: this one)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Fill the cache of every split; exit code 1 if a file is bad."""
    from ct_vlm.datasets import CTRateDataset, preprocess

    failed = 0
    for split in args.split:
        dataset = CTRateDataset(
            args.root,
            split,
            version=args.version,
            preset=args.preset,
            text=None,
            labels=False,
            cache_dir=args.cache_dir,
        )
        say(str(dataset.report))
        result = preprocess(dataset, args.workers, progress=not args.no_progress)
        head, *failures = str(result).splitlines()
        say(f"{split}: {head}")
        for line in failures:
            complain(line)
        failed += len(result.failures)
    return 1 if failed else 0
