"""Write pairs of true and wrong lists of abnormalities for preference training (DPO).

Lists are made of a download's reports (CT-RATE, or RadGenome-ChestCT with its links from sentences to regions); volumes
are not needed. Wrong lists hold nothing that is true of the patient, and every line says what was changed. The file has
TRL's columns prompt, chosen and rejected.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import say, say_table
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    import argparse

    from ct_vlm.datasets.preferences import PreferencePair

_STRATEGIES = ("confusion", "side", "size", "omission", "insertion", "random")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm preferences``."""
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder that holds `dataset/`")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the pairs go (.jsonl)")
    parser.add_argument("--split", choices=("train", "valid"), default="train", help="which split (default train)")
    parser.add_argument(
        "--layout", choices=("auto", "ct_rate", "radgenome"), default="auto", help="data set (default: by its tables)"
    )
    parser.add_argument("--strategy", choices=_STRATEGIES, default="confusion", help="what is wrong (confusion)")
    parser.add_argument("--seed", type=int, default=0, help="decides what is drawn (default 0)")
    parser.add_argument("--max-changes", type=positive, metavar="N", help="entries changed at most (default: all)")
    parser.add_argument("--insert", action="store_true", help="put a wrong entry in where nothing can be changed")
    parser.add_argument(
        "--answer",
        choices=("list_and_heading", "list", "full"),
        default="list_and_heading",
        help="the list and the heading of the report (default), the list alone, or both with the report",
    )
    parser.add_argument("--prompt", metavar="TEXT", help="instruction (default: that of the first stage)")
    parser.add_argument(
        "--form", choices=("conversational", "plain"), default="conversational", help="messages or strings"
    )
    parser.add_argument("--show", type=positive, metavar="N", help="print the first N changes")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Write the pairs and say how many there are."""
    from rich.console import Console
    from rich.progress import Progress

    from ct_vlm.datasets.preferences import write_preferences
    from ct_vlm.datasets.steering import HardNegatives, make_pairs, read_scans
    from ct_vlm.text.steering import STEERING_PROMPT

    if args.out.is_dir():
        cause = f"`{args.out}` is a folder."
        raise UsageError(cause, "Pass the name of a file, such as pairs.jsonl.")
    negatives = HardNegatives(
        args.strategy, args.seed, max_changes=args.max_changes, fallback="insertion" if args.insert else "none"
    )
    with Progress(console=Console(stderr=True), disable=args.no_progress, transient=True) as progress:
        reading = progress.add_task("lists", total=None)
        scans = read_scans(args.root, args.split, args.layout, on_scan=lambda: progress.advance(reading))
        task = progress.add_task("pairs", total=len(scans))
        pairs = list(
            make_pairs(
                scans,
                negatives,
                prompt=args.prompt or STEERING_PROMPT,
                answer=args.answer,
                on_scan=lambda: progress.advance(task),
            )
        )
    write_preferences(pairs, args.out, args.form)
    normal = sum(not scan.abnormalities for scan in scans)
    say(f"{len(pairs)} pairs of {len(scans)} volumes ({normal} without abnormality) in {args.out}")
    unplaced = sum(len(scan.unplaced) for scan in scans)
    say(f"{unplaced} abnormal sentences are in no list, since they have no region that is known")
    if args.show:
        _show(pairs, args.show)
    return 0


def _show(pairs: list[PreferencePair], count: int) -> None:
    """Print the first changes."""
    changes = [(pair.id, change) for pair in pairs for change in pair.changes][:count]
    rows = [(name, change.region, change.old or "-", change.new or "-") for name, change in changes]
    say_table("changes", ("volume", "region", "true", "wrong"), rows)
