"""What the stand-alone benchmarks print and keep: a table, and rows with the place and time of the run."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.environment import describe, load
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 160
"""Columns of a table that goes to a file."""


def progress_bar(*, shown: bool) -> Progress:
    """Return a bar on a terminal's stderr; refreshed by hand, as a refreshing thread would count as work."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not (shown and console.is_terminal)
    )


def environment_columns() -> dict[str, Any]:
    """Return where and when rows were measured, and the load just before."""
    return {**dataclasses.asdict(describe(torch.device("cpu"))), "load": round(load(), 2)}


def print_table(title: str, rows: Sequence[dict[str, str]]) -> None:
    """Print rows of equal keys."""
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row.values())
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)


def append_csv(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows to a file, with a header if it is new.

    Raises:
        DatasetError: If the file has other columns.
    """
    file = Path(path)
    columns = list(rows[0])
    is_new = not file.is_file() or file.stat().st_size == 0
    if not is_new:
        with file.open(newline="", encoding="utf-8") as stream:
            found = next(csv.reader(stream))
        if found != columns:
            cause = f"`{file}` has other columns: {', '.join(found)}."
            raise DatasetError(cause, "Name another file.")
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
