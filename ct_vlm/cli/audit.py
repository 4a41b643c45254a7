"""Check a CT-RATE or RadGenome-ChestCT download; nothing in it is changed.

Tables and headers are read (thousands of files in seconds), with --deep every voxel. Whatever is wrong is listed
with its meaning and cure; docs/audit.md lists every code. The exit code is 1 if an error is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import say, say_table
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    import argparse

    from ct_vlm.datasets.audit.report import AuditReport, Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm audit``."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder that holds dataset/, or that folder itself")
    parser.add_argument("--layout", choices=("auto", "ct_rate", "radgenome"), default="auto", help="default: look")
    parser.add_argument("--deep", action="store_true", help="decode every volume and mask")
    parser.add_argument(
        "--expect",
        choices=("full", "subset"),
        default="subset",
        help="full: whatever is absent is an error (default subset)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads and processes (default: by the cores)")
    parser.add_argument("--show", type=positive, default=3, metavar="K", help="findings shown a code (default 3)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Audit a tree; exit code 1 if an error is found."""
    from ct_vlm.datasets.audit import audit

    outputs = [path for path in (args.json, args.html) if path is not None]
    for path in outputs:
        _check_output(path, args.root)
    report = audit(
        args.root,
        args.layout,
        deep=args.deep,
        expect=args.expect,
        workers=args.workers,
        progress=not args.no_progress,
    )
    _print(report, args.show)
    if args.json is not None:
        report.save_json(args.json)
    if args.html is not None:
        report.save_html(args.html)
    return 1 if report.has_errors else 0


def _check_output(path: Path, root: Path) -> None:
    """Refuse an output within the tree, which an audit leaves as it is, or in a folder that is absent.

    Raises:
        UsageError: If it lies there.
    """
    place = path.resolve()
    if place.is_relative_to(root.resolve()):
        cause = f"`{path}` lies in `{root}`, and an audit never writes to what it checks."
        raise UsageError(cause, "Pass a file elsewhere.")
    if not place.parent.is_dir() or place.is_dir():
        cause = f"Cannot write `{path}`: it is a folder, or its folder does not exist."
        raise UsageError(cause, "Make the folder first, and pass the name of a file.")


def _print(report: AuditReport, show: int) -> None:
    """Print counts, findings by code, and a summary."""
    if report.counts:
        rows = [
            (count.split, count.release, count.unit, f"{count.found:,}", f"{count.published:,}", count.note)
            for count in report.counts
        ]
        say_table(
            "counts", ("split", "release", "unit", "found", "published", "what the published number counts"), rows
        )
        say("")
    if report.regions:
        say_table("region masks", ("region", "volumes"), [(name, f"{n:,}") for name, n in report.regions.items()])
        say("")
    for code, findings in report.by_code().items():
        _print_code(code, findings, show)
    totals = ", ".join(f"{count:,} {severity}" for severity, count in report.count_by_severity().items())
    rate = f" ({report.headers / report.seconds:,.0f} a second)" if report.seconds and not report.is_deep else ""
    say(f"{report.headers:,} headers and {report.voxels:,} volumes read in {report.seconds:.1f} s{rate}: {totals}")


def _print_code(code: str, findings: list[Finding], show: int) -> None:
    """Print the first findings of a code under what it means."""
    from ct_vlm.datasets.audit import CODES

    say(f"{findings[0].severity} {code} ({len(findings):,}): {CODES[code].meaning}")
    for found in findings[:show]:
        line = "" if found.row is None else f":{found.row}"
        say(f"    {found.file}{line}{f'  {found.detail}' if found.detail else ''}")
    if len(findings) > show:
        say(f"    and {len(findings) - show:,} more")
    say(f"    cure: {CODES[code].cure}")
