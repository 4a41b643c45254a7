"""Look after a cache of preprocessed volumes or features.

verify reads every byte and compares checksums; gc removes leftovers of killed writers and entries whose
source is gone or changed; stats counts. Files that are not cache entries are never touched.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.output import complain, say, say_json, say_table

if TYPE_CHECKING:
    from ct_vlm.cache import CollectResult

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm cache``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="verify|gc|stats")
    check = actions.add_parser("verify", help="compare every byte with its checksum; exit code 1 if one differs")
    check.add_argument("--delete-bad", action="store_true", help="delete damaged entries; they are made again")
    clean = actions.add_parser("gc", help="remove leftovers and entries whose source is gone or changed")
    clean.add_argument(
        "--max-size", type=size, metavar="SIZE", help="then remove by least recent use until it fits, e.g. 2TB"
    )
    clean.add_argument(
        "--leftover-hours", type=float, default=1.0, metavar="H", help="age of temporary files (default 1)"
    )
    clean.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    count = actions.add_parser("stats", help="count entries and bytes by preset")
    for command in (check, clean, count):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="what `--cache-dir` named")
        command.add_argument("--json", action="store_true", help="machine-readable output")
        command.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return {"verify": _verify, "gc": _collect, "stats": _stats}[args.action](args)


def size(text: str) -> int:
    """Return a number of bytes: ``500GB`` is decimal, ``500GiB`` binary.

    Args:
        text: Number and unit.

    Raises:
        argparse.ArgumentTypeError: If it is something else.

    Example:
        >>> from ct_vlm.cli.cache import size
        >>> size("1.5TB"), size("2KiB")
        (1500000000000, 2048)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?\s*", text, re.IGNORECASE)
    if match is None:
        msg = f"{text!r} is no size; write e.g. 500GB or 2TB"
        raise argparse.ArgumentTypeError(msg)
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _UNITS[unit.upper()])


def _verify(args: argparse.Namespace) -> int:
    from ct_vlm.cache import verify

    result = verify(args.folder, delete_bad=args.delete_bad, progress=not args.no_progress)
    if args.json:
        say_json(vars(result))
        return 1 if result.bad or result.unreadable else 0
    rate = result.num_bytes / max(result.seconds, 1e-9)
    say(f"{result.checked} entries, {human(result.num_bytes)} in {result.seconds:.1f} s ({human(rate)}/s)")
    for path, problem in result.bad.items():
        complain(f"{'deleted' if path in result.deleted else 'bad'}: {path}: {problem}")
    for folder in result.unreadable:
        complain(f"not looked at: {folder}")
    say("all are whole" if not result.bad else f"{len(result.bad)} bad, {len(result.deleted)} deleted")
    return 1 if result.bad or result.unreadable else 0


def _collect(args: argparse.Namespace) -> int:
    from ct_vlm.cache import collect

    result = collect(
        args.folder,
        max_bytes=args.max_size,
        temporary_age=args.leftover_hours * 3600,
        dry_run=args.dry_run,
        progress=not args.no_progress,
    )
    if args.json:
        say_json(vars(result))
    else:
        _say_collected(result, dry_run=args.dry_run)
    return 1 if result.failed else 0


def _say_collected(result: CollectResult, *, dry_run: bool) -> None:
    for path, reason in result.removed.items():
        say(f"{path}: {reason}")
    verb = "would be removed" if dry_run else "removed"
    say(f"{len(result.removed)} files ({human(result.freed)}) {verb}; {result.kept} entries stay")
    if result.unreachable:
        say(f"{len(result.unreachable)} of them have a source in a folder that is missing: is a disk not mounted?")
    if result.damaged:
        say(f"{len(result.damaged)} of them are damaged: `ct-vlm cache verify --delete-bad` removes them")
    for path, problem in result.failed.items():
        complain(f"cannot remove {path}: {problem}")


def _stats(args: argparse.Namespace) -> int:
    from ct_vlm.cache import summarise

    summary = summarise(args.folder, progress=not args.no_progress)
    if args.json:
        say_json(summary.to_json())
        return 0
    rows = [
        (
            name,
            str(group.entries),
            human(group.num_bytes),
            human(group.array_bytes),
            f"{group.ratio:.2f}",
            ", ".join(f"{codec} {count}" for codec, count in sorted(group.codecs.items())),
            str(group.damaged),
        )
        for name, group in sorted(summary.groups.items())
    ]
    say_table(str(args.folder), ("folder", "entries", "on disk", "in memory", "ratio", "codecs", "damaged"), rows)
    if summary.temporaries:
        left = human(summary.temporary_bytes)
        say(f"{summary.temporaries} temporary files ({left}); `ct-vlm cache gc` removes old ones")
    if summary.others:
        say(f"{summary.others} other files")
    return 0


def human(num_bytes: float) -> str:
    """Return bytes as people read them, in decimal units.

    Args:
        num_bytes: How many.

    Example:
        >>> from ct_vlm.cli.cache import human
        >>> human(31_400_000)
        '31.4 MB'
    """
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while num_bytes >= 1000 and power < len(units) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:.{min(power, 1)}f} {units[power]}"
