"""What the command line says: results on stdout, errors on stderr, tables through rich."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def say(text: str) -> None:
    """Write one line of a result on stdout."""
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    """Write one line about a problem on stderr."""
    sys.stderr.write(f"{text}\n")


def say_json(value: Any) -> None:
    """Write a value as indented JSON on stdout."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table on stdout; piped output is as wide as its longest line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout)
    console.print(table, width=console.width if console.is_terminal else 200)
