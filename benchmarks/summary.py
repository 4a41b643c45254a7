"""Rows put side by side: one line a provider, its modes in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.rows import Row

HEAD = ("provider", "forward", "ratio", "fwd + bwd", "ratio", "extra MiB", "off by", "of floor", "why not")
"""Columns of :func:`cells`: times in ms, each with the baseline's time over it."""


class Line(NamedTuple):
    """A provider's rows of one case."""

    provider: str
    forward: Row | None
    full: Row | None


def by_case(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group rows by case, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.case, []).append(row)
    return groups


def lines(rows: Sequence[Row]) -> list[Line]:
    """Return a line for every provider of one case."""
    found = {(row.provider, row.mode): row for row in rows}
    providers = dict.fromkeys(row.provider for row in rows)
    return [Line(name, found.get((name, "forward")), found.get((name, "full"))) for name in providers]


def cells(line: Line) -> tuple[str, ...]:
    """Return a line's texts under :data:`HEAD`."""
    forward, full = line.forward, line.full
    share = forward.floor_share if forward else None
    return (
        line.provider,
        *_time(forward),
        *_time(full),
        _pair(forward, full, "extra_mib"),
        _relative(forward, full),
        "" if share is None else f"{share:.0%}",
        "; ".join(dict.fromkeys(row.reason for row in (forward, full) if row and row.reason)),
    )


def number(value: float | None) -> str:
    """Return three significant digits, without an exponent where it reads well.

    Example:
        >>> number(1234.5), number(0.01234), number(None)
        ('1,234', '0.0123', '')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(row: Row | None) -> tuple[str, str]:
    if row is None or row.median_ms is None:
        return ("", "")
    return (number(row.median_ms), number(row.ratio))


def _pair(forward: Row | None, full: Row | None, name: str) -> str:
    values = [number(getattr(row, name)) for row in (forward, full) if row is not None]
    return " / ".join(value for value in values if value)


def _relative(forward: Row | None, full: Row | None) -> str:
    """Return differences relative to the largest value of the reference."""
    pairs = [(row.difference, row.reference_max) for row in (forward, full) if row is not None]
    values = [largest / scale for largest, scale in pairs if largest is not None and scale]
    return " / ".join(f"{value:.0e}" if value else "0" for value in values)
