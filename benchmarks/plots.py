"""One picture an op: a panel a case, bars of time, a line at the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.summary import by_case, lines, number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.rows import Row

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
    heights = [len(lines(of_case)) + 1.2 for of_case in cases.values()]
    # a figure of its own canvas: pyplot would keep it and may look for a display
    figure = Figure(figsize=(8, 0.38 * sum(heights) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(cases), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, (case, of_case) in zip(panels, cases.items(), strict=True):
        _panel(axes, case, of_case)
    panels[-1].set_xlabel(f"ms ({rows[0].clock}), {rows[0].processor}, {rows[0].threads} thread")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=8)
    figure.savefig(file, dpi=110, format="png", metadata={"Software": None})


def _panel(axes: Axes, case: str, rows: Sequence[Row]) -> None:
    found = lines(rows)
    _bars(axes, [line.forward for line in found], -0.2, FORWARD, "forward")
    _bars(axes, [line.full for line in found], 0.2, FULL, "forward + backward")
    floors = [row.floor_ms for row in rows if row.floor_ms]
    if floors:
        axes.axvline(floors[0], color=FLOOR, linestyle="--", linewidth=1, label="floor of forward")
    axes.set_yticks(range(len(found)), [line.provider for line in found], fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_title(case, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _bars(axes: Axes, rows: Sequence[Row | None], offset: float, color: str, label: str) -> None:
    timed = [(place, row.median_ms) for place, row in enumerate(rows) if row and row.median_ms]
    if not timed:
        return
    places, times = zip(*timed, strict=True)
    bars = axes.barh([place + offset for place in places], times, height=0.36, color=color, label=label)
    axes.bar_label(bars, [number(value) for value in times], padding=2, fontsize=7)
