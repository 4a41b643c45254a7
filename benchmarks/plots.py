"""One picture an op: a panel a case, a row a provider, points on a logarithmic axis of time, a line at the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.summary import by_case, lines, number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.rows import Row
    from benchmarks.summary import Line

FORWARD, FULL, FLOOR = "#0072b2", "#e69f00", "#444444"
"""Colours that readers with any colour vision tell apart."""


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the rows of one op on one device.

    Args:
        rows: Latest rows of all its cases.
        file: A PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = by_case(rows)
    heights = [len(_timed(of_case)) + 1.5 for of_case in cases.values()]
    figure = Figure(figsize=(8, 0.28 * sum(heights) + 0.9), layout="constrained")
    # a canvas of its own: pyplot would keep the figure and may look for a display
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(cases), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, (case, of_case) in zip(panels, cases.items(), strict=True):
        _panel(axes, case, of_case)
    panels[-1].set_xlabel(f"ms ({rows[0].clock}), {rows[0].processor}", fontsize=8)
    _plain_ticks(panels[-1])
    named = {text: handle for axes in panels for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named, loc="outside upper right", ncols=max(len(named), 1), frameon=False, fontsize=8)
    figure.savefig(file, dpi=110, format="png", metadata={"Software": None})


def _timed(rows: Sequence[Row]) -> list[Line]:
    return [line for line in lines(rows) if any(row and row.median_ms for row in (line.forward, line.full))]


def _panel(axes: Axes, case: str, rows: Sequence[Row]) -> None:
    found = _timed(rows)
    _points(axes, [line.forward for line in found], "o", FORWARD, "forward")
    _points(axes, [line.full for line in found], "s", FULL, "forward + backward")
    floors = [row.floor_ms for row in rows if row.floor_ms]
    if floors:
        axes.axvline(floors[0], color=FLOOR, linestyle="--", linewidth=1, label="floor of forward")
    axes.set_yticks(range(len(found)), [line.provider for line in found], fontsize=8)
    axes.set_ylim(len(found) - 0.3, -0.8)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.grid(axis="y", linewidth=0.4)
    axes.set_title(case, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _points(axes: Axes, rows: Sequence[Row | None], marker: str, color: str, label: str) -> None:
    timed = [(place, row.median_ms) for place, row in enumerate(rows) if row and row.median_ms]
    if not timed:
        return
    places, times = zip(*timed, strict=True)
    axes.plot(times, places, marker, color=color, label=label, markersize=5)
    for place, value in timed:
        axes.annotate(number(value), (value, place), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7)


def _plain_ticks(axes: Axes) -> None:
    """Write 200 and not 2 x 10^2."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=8)
