"""Say what is going on while a step takes its time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def step(description: str, *, show: bool = True) -> Iterator[None]:
    """Show a step and its time, on a terminal's standard error only.

    Args:
        description: What is being done.
        show: Show it at all.

    Example:
        >>> from ct_vlm.evaluation.progress import step
        >>> with step("Counting", show=False):
        ...     sum([1, 2])
        3
    """
    if show:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*columns, console=console, transient=True) as progress:
                progress.add_task(description, total=None)
                yield
            return
    yield
