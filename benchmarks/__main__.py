"""Time ops beside what else computes them: ``python -m benchmarks run | list | page``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# before numpy or torch is imported: a thread that waits for another one counts as work
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

from benchmarks.page import DOCS, RESULTS, write_page  # noqa: E402
from benchmarks.registry import load_op, op_names  # noqa: E402
from benchmarks.run import DTYPES, Request, run  # noqa: E402
from ct_vlm.cli.types import positive  # noqa: E402
from ct_vlm.errors import CTVLMError  # noqa: E402


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="test, then time ops, and print tables")
    runs.add_argument("ops", nargs="*", metavar="op", help="ops to time (default: all)")
    runs.add_argument("--csv", metavar="FILE", help="append the rows to this file")
    runs.add_argument("--case", metavar="NAME", help="one case only")
    runs.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    runs.add_argument("--dtype", choices=tuple(DTYPES), help="default: float32 on a CPU, bfloat16 on a GPU")
    runs.add_argument("--repeats", type=positive, default=15, metavar="N", help="timed calls of a provider (15)")
    runs.add_argument("--budget", type=float, default=120.0, metavar="S", help="seconds of timing a case (120)")
    runs.add_argument("--skip-tests", action="store_true", help="rows say so")
    runs.add_argument("--no-progress", action="store_true", help="no progress bar")
    commands.add_parser("list", help="list ops, cases and providers")
    page = commands.add_parser("page", help="make the documentation's page and plots from the kept rows")
    page.add_argument("--results", default=str(RESULTS), metavar="DIR", help="folder of CSV files")
    page.add_argument("--docs", default=str(DOCS), metavar="DIR", help="where benchmarks.md and benchmarks/ go")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all was done, 1 if an op was refused, 2 if the command was wrong."""
    args = make_parser().parse_args(argv)
    try:
        if args.command == "run":
            return _run(args)
        if args.command == "list":
            return _list()
        print(write_page(args.results, args.docs))
    except CTVLMError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(args: argparse.Namespace) -> int:
    request = Request(
        ops=args.ops or op_names(),
        csv=args.csv,
        case=args.case,
        device=args.device,
        dtype=args.dtype,
        repeats=args.repeats,
        budget_s=args.budget,
        skip_tests=args.skip_tests,
        progress=not args.no_progress,
    )
    return run(request)


def _list() -> int:
    for name in op_names():
        op = load_op(name)
        print(f"{name}  (tests: {op.tests})")
        print(f"  cases: {', '.join(case['name'] for case in op.cases)}")
        print(f"  providers: {', '.join(op.providers)}; baseline: {op.baseline}; reference: {op.reference}")
        for provider, reason in op.missing.items():
            print(f"  not here: {provider}: {reason}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
