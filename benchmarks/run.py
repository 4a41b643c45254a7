"""A run: every op is tested, then its cases are timed, printed and appended to a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.ceilings import measure_ceiling
from benchmarks.clocks import make_clock
from benchmarks.environment import check_comparable, cores, describe, load
from benchmarks.gate import RedTestsError, require_green
from benchmarks.measure import Settings, measure_case
from benchmarks.registry import load_op
from benchmarks.rows import append_rows, read_rows
from benchmarks.summary import HEAD, by_case, cells, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.environment import Environment
    from benchmarks.registry import Case, Op
    from benchmarks.rows import Row

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
WIDTH = 160
"""Columns of a table that goes to a file."""


@dataclass(frozen=True)
class Request:
    """What to run; see ``python -m benchmarks run --help``."""

    ops: Sequence[str]
    csv: str | None = None
    case: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    repeats: int = 15
    budget_s: float = 120.0
    skip_tests: bool = False
    progress: bool = True


def run(request: Request) -> int:
    """Run a request.

    Returns:
        0, or 1 if an op was not timed because its tests are red.

    Raises:
        ConfigError: If an op or case is unknown, or a time here would say nothing.
        DatasetError: If the CSV file has other columns.
    """
    device = torch.device(request.device)
    dtype = DTYPES[request.dtype or ("bfloat16" if device.type == "cuda" else "float32")]
    check_comparable(device, dtype)
    torch.set_num_threads(1)
    plan = [(op, op.select(request.case)) for op in map(load_op, request.ops)]
    if request.csv is not None:
        _check_file(request.csv)
    warn_if_busy()
    environment = describe(device)
    red = False
    # refreshed by hand: what a refreshing thread does would count as work of a provider
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    hidden = not (request.progress and console.is_terminal)
    with Progress(*columns, console=console, auto_refresh=False, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=sum(len(cases) for _, cases in plan))

        def step(text: str, advance: int = 0) -> None:
            progress.update(task, description=text, advance=advance, refresh=True)

        for op, cases in plan:
            try:
                _run_op(op, cases, request, device, dtype, environment, step)
            except RedTestsError as error:
                red = True
                step("", advance=len(cases))
                console.print(str(error), style="red", markup=False, highlight=False)
    return int(red)


def _run_op(
    op: Op,
    cases: Sequence[Case],
    request: Request,
    device: torch.device,
    dtype: torch.dtype,
    environment: Environment,
    step: Callable[..., None],
) -> None:
    if not request.skip_tests:
        step(f"{op.name}: tests")
        require_green(op.tests)
    clock = make_clock(device)
    step(f"{op.name}: ceilings")
    ceiling = measure_ceiling(device, dtype, clock)
    for case in cases:
        settings = Settings(
            device=device,
            dtype=dtype,
            repeats=request.repeats,
            budget_s=request.budget_s,
            tests="skipped" if request.skip_tests else "passed",
            step=partial(_step_of, step, f"{op.name} {case['name']}: "),
        )
        rows = measure_case(op, case, settings, clock, ceiling, environment)
        if request.csv is not None:
            append_rows(request.csv, rows)
        print_rows(rows)
        step("", advance=1)


def _step_of(step: Callable[[str], None], start: str, text: str) -> None:
    step(start + text)


def warn_if_busy() -> bool:
    """Say so if more processes run than there are cores: times would depend on them."""
    busy = load()
    if busy <= cores():
        return False
    print(
        f"The load ({busy:.1f}) is above the number of cores ({cores()}): ratios may be off. Wait, or stop other work.",
        file=sys.stderr,
    )
    return True


def print_rows(rows: Sequence[Row]) -> None:
    """Print a table for every case."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for case, of_case in by_case(rows).items():
        row = of_case[0]
        title = f"{row.op} {case}, {row.dtype}, {row.device}: ms ({row.clock})"
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
        for index, name in enumerate(HEAD):
            numeric, last = 0 < index < len(HEAD) - 1, index == len(HEAD) - 1
            table.add_column(name, justify="right" if numeric else "left", no_wrap=not last)
        for line in lines(of_case):
            table.add_row(*cells(line))
        console.print(table)


def _check_file(file: str) -> None:
    """Read the file before hours of work depend on it."""
    if Path(file).exists():
        read_rows(file)
