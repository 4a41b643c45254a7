"""Plots of an evaluation, drawn without a display."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from ct_vlm.evaluation.cases import Case

_COLORS = ("#2c6fbb", "#d9822b", "#5b8c5a")


def label_bars(systems: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw F1 of each label with its interval, one bar a system.

    Args:
        systems: Name of each system to its scores (``clinical`` and ``intervals``).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(systems)
    for number, (name, scores) in enumerate(systems.items()):
        places = np.arange(len(CT_RATE_LABELS)) + (number - (len(systems) - 1) / 2) * height
        values, low, high = _with_intervals(scores)
        errors = np.stack([values - low, high - values]).clip(min=0)
        axes.barh(places, values, height, xerr=errors, color=_COLORS[number % 3], label=name, error_kw={"lw": 0.8})
    support = [next(iter(systems.values()))["clinical"]["per_label"][label]["support"] for label in CT_RATE_LABELS]
    axes.set_yticks(
        range(len(CT_RATE_LABELS)), [f"{label} ({n:g})" for label, n in zip(CT_RATE_LABELS, support, strict=True)]
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 (line: interval over patients; in brackets: positive references)")
    axes.grid(axis="x", lw=0.3)
    axes.set_axisbelow(True)
    if len(systems) > 1:
        figure.legend(loc="outside upper center", ncols=len(systems))
    return figure


def length_histograms(cases: Sequence[Case]) -> Figure:
    """Draw how many words predicted and true reports have.

    Args:
        cases: From :func:`ct_vlm.evaluation.make_cases`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.add_subplot()
    kinds = {
        "references": [len(case.reference.split()) for case in cases if case.reference is not None],
        "predictions": [len((case.prediction or "").split()) for case in cases],
    }
    bins = np.histogram_bin_edges([n for lengths in kinds.values() for n in lengths] or [0], bins=40)
    for color, (name, lengths) in zip(("#999999", _COLORS[0]), kinds.items(), strict=True):
        if lengths:
            axes.hist(lengths, bins.tolist(), alpha=0.6, color=color, label=f"{name}: median {np.median(lengths):.0f}")
    axes.set_xlabel("words")
    axes.set_ylabel("reports")
    axes.legend()
    return figure


def as_data_uri(figure: Figure) -> str:
    """Return a figure as a PNG inside a ``data:`` address.

    Args:
        figure: The figure.
    """
    stream = io.BytesIO()
    # without a date: the same scores give the same bytes
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _with_intervals(scores: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return F1 of each label with the ends of its interval; both ends are the value where there is none."""
    rows = []
    for label in CT_RATE_LABELS:
        value = scores["clinical"]["per_label"][label]["f1"] or 0.0
        interval = scores["intervals"].get(f"per_label/{label}/f1") or {}
        ends = [value if interval.get(key) is None else interval[key] for key in ("low", "high")]
        rows.append((value, *ends))
    values, low, high = np.array(rows).T
    return values, low, high
