"""Draw what a reliance run found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.metrics.reliance_result import RelianceResult


def plot_reliance(result: RelianceResult, path: str | Path | None = None, score: str | None = None) -> Any:
    """Draw the score of each arm with its interval.

    Args:
        result: Of :func:`~ct_vlm.metrics.visual_reliance`.
        path: Write the figure there (the suffix decides the format).
        score: Which score; the first unless given.

    Returns:
        A ``matplotlib.figure.Figure`` that belongs to no window.

    Raises:
        ConfigError: If the score is unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.metrics import plot_reliance, visual_reliance
        >>> batch = {"image": torch.arange(4.0).view(4, 1, 1, 1, 1), "patient_id": list("abcd"),
        ...          "labels": torch.ones(4, 18)}
        >>> found = visual_reliance(lambda batch: ["Pacemaker is seen."] * 4, [batch], ["zeroed"], n_resamples=20)
        >>> [tick.get_text() for tick in plot_reliance(found).axes[0].get_yticklabels()]
        ['real', 'zeroed']
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = list(result.arms["real"])
    score = known[0] if score is None else score
    if score not in known:
        cause = f"Unknown score {score!r}."
        raise ConfigError(cause, f"Choose from {known}.")
    figure = Figure(figsize=(6, 0.6 + 0.45 * len(result.arms)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, (arm, values) in enumerate(result.arms.items()):
        found = values[score]
        axes.barh(row, found.value, color="tab:blue" if arm == "real" else "tab:gray")
        axes.plot([found.low, found.high], [row, row], color="black", linewidth=1.5)
        reliance = result.reliance.get(arm, {}).get(score)
        if reliance is not None and not math.isnan(reliance.value):
            axes.text(
                0.99,
                row,
                f"reliance {reliance.value:.2f}",
                ha="right",
                va="center",
                transform=axes.get_yaxis_transform(),
            )
    axes.set_yticks(range(len(result.arms)), [arm.replace("_", " ") for arm in result.arms])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    interval = f" ({result.confidence:.0%} interval over patients)" if result.n_resamples else ""
    axes.set_xlabel(f"{score.replace('_', ' ')}{interval}")
    if path is not None:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)
    return figure
