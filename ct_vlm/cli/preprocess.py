"""Fill the cache of preprocessed volumes, with all cores.

Volumes become int16 HU on the preset's grid. An interrupted run goes on where it stopped. A bad file is listed in
`preprocess_report.json` and `.csv` with cause and cure, and the others go on; it is tried again when it has changed,
or with `--retry-failed`. Files of the data set are never touched. Of RadGenome-ChestCT the masks of regions are
made too, for the regions and rules that training will ask for.

job arrays:  --shard 3/8 (shards count from 1) or --shard auto (SLURM); all tasks may share one cache
clusters:    --engine ray (pip install "ct_vlm[cluster]"), with --ray-address auto for a cluster that runs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.grounding import read_regions
from ct_vlm.cli.output import complain, say, say_table
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    from ct_vlm.datasets import CTRateDataset, RadGenomeDataset
    from ct_vlm.datasets.preprocessing import Estimate, PreprocessResult, Shard, WorkerPlan

SPLITS = ("train", "valid")
_SHOWN_FAILURES = 10
_MACHINES = (1, 8, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm preprocess``."""
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder that holds dataset/")
    parser.add_argument("--preset", required=True, metavar="NAME", help="preprocessing; see `ct-vlm list presets`")
    parser.add_argument("--cache-dir", type=Path, required=True, metavar="DIR", help="where preprocessed volumes go")
    parser.add_argument(
        "--codec",
        choices=("zstd", "lz4", "uncompressed"),
        default="zstd",
        help="form of new entries: smallest, faster to read, or mapped into memory (default zstd)",
    )
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits (default: both)")
    parser.add_argument("--version", choices=("auto", "v1", "v2"), default="auto", help="release (default auto)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar and no progress lines")
    parser.add_argument("--dry-run", action="store_true", help="measure a few volumes; say what a run would take")
    parser.add_argument("--measure", type=positive, default=5, metavar="N", help="volumes for --dry-run (default 5)")
    _add_radgenome(parser)
    _add_resources(parser)
    _add_failures(parser)


def _add_radgenome(parser: argparse.ArgumentParser) -> None:
    """Declare what says which data set it is, and which masks are made."""
    group = parser.add_argument_group("which data set, and masks of RadGenome-ChestCT")
    group.add_argument("--layout", choices=("auto", "ct_rate", "radgenome"), default="auto", help="(default: look)")
    group.add_argument(
        "--regions", default="ten", metavar="NAME|FILE", help="ten (default), six, JSON of region to masks, or none"
    )
    group.add_argument("--mask-level", choices=("region", "anatomy"), default="region", help="(default region)")
    group.add_argument(
        "--mask-mismatch", choices=("error", "resample", "skip"), default="error", help="masks on another grid"
    )
    group.add_argument("--mask-method", choices=("nearest", "majority"), default="nearest", help="(default nearest)")


def _add_resources(parser: argparse.ArgumentParser) -> None:
    """Declare what says where the work is done."""
    group = parser.add_argument_group("where the work is done")
    group.add_argument(
        "--workers",
        type=_workers,
        default="auto",
        metavar="N",
        help="processes; auto (default) is one a core, fewer where memory is short; 0 is this process",
    )
    group.add_argument(
        "--memory-per-worker", type=_above_zero, default=1.0, metavar="GIB", help="for auto and ray (default 1)"
    )
    group.add_argument("--shard", metavar="I/N", help="do only part I of N, or the SLURM array task's with `auto`")
    group.add_argument("--engine", choices=("processes", "ray"), default="processes", help="(default processes)")
    group.add_argument("--ray-address", metavar="ADDRESS", help="of a running cluster, e.g. auto")


def _add_failures(parser: argparse.ArgumentParser) -> None:
    """Declare what happens to bad files."""
    group = parser.add_argument_group("bad files")
    group.add_argument("--report", type=Path, metavar="DIR", help="folder of the report (default: the cache's)")
    group.add_argument("--retry-failed", action="store_true", help="try files that failed before again")
    group.add_argument("--max-failures", type=positive, metavar="N", help="stop when N files have failed")
    group.add_argument("--timeout", type=_above_zero, metavar="SECONDS", help="give a file up after this time")


def run(args: argparse.Namespace) -> int:
    """Fill the cache of every split; exit code 1 if a file is bad or the run stopped early."""
    from ct_vlm.datasets.preprocessing import Shard, plan_workers

    layout = _layout(args)
    shard = Shard.parse(args.shard) if args.shard else Shard()
    plan = plan_workers(args.workers, args.memory_per_worker)
    failed = False
    for split in args.split:
        dataset = _dataset(args, layout, split)
        say(str(dataset.report))
        if args.dry_run:
            _say_estimate(args, split, dataset, shard, plan)
            continue
        result = _preprocess(args, dataset, shard, plan)
        _say_result(split, result)
        failed = failed or bool(result.failures or result.stopped)
        if result.stopped:
            break
    return 1 if failed else 0


def _layout(args: argparse.Namespace) -> str:
    """Return the layout of the tree.

    Raises:
        UsageError: If both lie there and none is named.
    """
    from ct_vlm.datasets.audit.layouts import detect_layouts

    found = detect_layouts(args.root, args.layout)
    if len(found) > 1:
        cause = f"`{args.root}` holds both CT-RATE and RadGenome-ChestCT."
        raise UsageError(cause, "Pass `--layout ct_rate` or `--layout radgenome`.")
    return found[0]


def _dataset(args: argparse.Namespace, layout: str, split: str) -> CTRateDataset | RadGenomeDataset:
    """Return the data set of a split, without its texts."""
    from ct_vlm.datasets import CTRateDataset, RadGenomeDataset

    common = {"preset": args.preset, "text": None, "cache_dir": args.cache_dir, "cache_codec": args.codec}
    if layout == "ct_rate":
        return CTRateDataset(args.root, split, version=args.version, labels=False, **common)
    if args.regions == "none":
        return RadGenomeDataset(args.root, split, masks=False, **common)
    return RadGenomeDataset(
        args.root,
        split,
        regions=read_regions(args.regions) or "ten",
        mask_level=args.mask_level,
        mask_mismatch=args.mask_mismatch,
        mask_method=args.mask_method,
        **common,
    )


def _preprocess(
    args: argparse.Namespace, dataset: CTRateDataset | RadGenomeDataset, shard: Shard, plan: WorkerPlan
) -> PreprocessResult:
    """Say who does the work, and do it."""
    from ct_vlm.datasets import preprocess

    part = "" if shard.count == 1 else f", shard {shard}"
    say(f"{'ray' if args.engine == 'ray' else plan}{part}")
    return preprocess(
        dataset,
        plan.workers,
        progress=not args.no_progress,
        shard=shard,
        report=args.report,
        retry_failed=args.retry_failed,
        max_failures=args.max_failures,
        timeout=args.timeout,
        memory_per_worker=args.memory_per_worker,
        engine=args.engine,
        ray_address=args.ray_address,
    )


def _say_result(split: str, result: PreprocessResult) -> None:
    """Say what was done, and the first failures."""
    rate = f" in {result.seconds:.0f} s" if result.made else ""
    say(f"{split}: {result.summary()}{rate}")
    for name, message in list(result.failures.items())[:_SHOWN_FAILURES]:
        complain(f"  {name}: {message}")
    more = len(result.failures) - _SHOWN_FAILURES
    if more > 0:
        complain(f"  ... and {more} more")
    if result.failures and result.report is not None:
        complain(f"All of them: `{result.report}`.")
    if result.stopped:
        complain(f"Stopped early: {result.stopped} Run the same command again to go on.")


def _say_estimate(
    args: argparse.Namespace, split: str, dataset: CTRateDataset | RadGenomeDataset, shard: Shard, plan: WorkerPlan
) -> None:
    """Say what a run would take, on machines like this one."""
    from ct_vlm.datasets.preprocessing import estimate

    found: Estimate = estimate(dataset, shard=shard, measure=args.measure)
    say(f"{split}: {found.volumes} volumes, {found.present} present, {found.todo} to do ({found.measured} measured)")
    if not found.todo:
        return
    workers = max(1, plan.workers)
    say(
        f"  read {_bytes(found.source_bytes)}, write {_bytes(found.entry_bytes)}, {found.cpu_seconds:.1f} s of one core"
    )
    rows = [[str(count), str(count * workers), f"{found.hours(workers, count):.2f}"] for count in _MACHINES]
    say_table("", ("machines", "workers", "hours"), rows)


def _bytes(count: float) -> str:
    """Return a size in a unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _workers(text: str) -> int | Literal["auto"]:
    """Parse ``auto`` or a count."""
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        msg = f"expected `auto` or an integer of at least 0, but got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _above_zero(text: str) -> float:
    """Parse a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"expected a number above 0, but got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number
