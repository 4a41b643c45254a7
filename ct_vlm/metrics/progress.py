"""A progress bar for work that takes more than a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


def track(items: Iterable[T], description: str, *, show: bool = True, total: float | None = None) -> Iterable[T]:
    """Go through items and show how far it is, on a terminal's standard error only.

    Args:
        items: What to go through.
        description: What is being done.
        show: Show the bar at all.
        total: Number of items, where ``items`` has no length.

    Example:
        >>> from ct_vlm.metrics.progress import track
        >>> sum(track([1, 2, 3], "Adding", show=False))
        6
    """
    if not show:
        return items
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    if not console.is_terminal:
        return items
    return rich_track(items, description, total=total, console=console, transient=True)
