"""Write preprocessed volumes, reports and labels as shards, for training that reads from an object store.

OUT gets one folder a split; copy it to the store with the store's own tool, and train with `ShardDataModule`. An
interrupted run goes on where it stopped. Volumes come from the cache where they are there: fill it with all cores
first (`ct-vlm preprocess`). A bad file is left out and named. Files of the data set are never touched.

job arrays:  --shard 3/8 (shards count from 1) or --shard auto (SLURM); the last task writes the index
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.output import complain, say
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    import argparse

SPLITS = ("train", "valid")
_SHOWN_FAILURES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm shards``."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder that holds CT-RATE's dataset/")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the shards go, a folder a split")
    parser.add_argument("--preset", required=True, metavar="NAME", help="preprocessing; see `ct-vlm list presets`")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="cache of preprocessed volumes")
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits (default: both)")
    parser.add_argument("--version", choices=("auto", "v1", "v2"), default="auto", help="release (default auto)")
    parser.add_argument(
        "--text", choices=("findings", "impressions", "both", "none"), default="findings", help="(default findings)"
    )
    parser.add_argument("--no-labels", action="store_true", help="leave the 18 labels out")
    parser.add_argument("--codec", choices=("zstd", "lz4", "uncompressed"), default="zstd", help="(default zstd)")
    parser.add_argument("--volumes-per-file", type=positive, default=2, metavar="N", help="(default 2)")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: this one)")
    parser.add_argument("--shard", metavar="I/N", help="do only part I of N, or the SLURM array task's with `auto`")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar and no progress lines")


def run(args: argparse.Namespace) -> int:
    """Write the shards of every split; exit code 1 if a volume was left out."""
    from ct_vlm.datasets import CTRateDataset, write_shards
    from ct_vlm.datasets.preprocessing import Shard

    shard = Shard.parse(args.shard) if args.shard else None
    failed = False
    for split in args.split:
        dataset = CTRateDataset(
            args.root,
            split,
            version=args.version,
            preset=args.preset,
            text=None if args.text == "none" else args.text,
            labels=not args.no_labels,
            cache_dir=args.cache_dir,
        )
        say(str(dataset.report))
        result = write_shards(
            dataset,
            args.out / split,
            volumes_per_file=args.volumes_per_file,
            codec=args.codec,
            workers=args.workers or 0,
            shard=shard,
            progress=not args.no_progress,
        )
        say(f"{split}: {str(result).splitlines()[0]}")
        for name, message in list(result.failures.items())[:_SHOWN_FAILURES]:
            complain(f"  {name}: {message}")
        if len(result.failures) > _SHOWN_FAILURES:
            complain(f"  ... and {len(result.failures) - _SHOWN_FAILURES} more")
        failed = failed or bool(result.failures)
    return 1 if failed else 0
