"""Example reports beside their volumes' slices."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

_WINDOWS = {"lung": (-1000, 200), "soft tissue": (-160, 240)}


def draw_case(path: Path, hu: npt.NDArray[np.int16], record: dict[str, Any], spacing: Sequence[float]) -> None:
    """Draw an axial and a coronal slice of a volume beside the written and the true report.

    Args:
        path: PNG file to write.
        hu: Volume in HU, ``(D, H, W)``.
        record: ``volume_id``, ``prediction`` and ``reference``.
        spacing: Voxel size in mm, D, H, W.
    """
    # the object interface never touches the user's backend or open figures
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(str(record["volume_id"]))
    panels = figure.subplots(2, 3, width_ratios=(1, 1, 1.7))
    d, h = hu.shape[0] // 2, hu.shape[1] // 2
    for row, (name, window) in enumerate(_WINDOWS.items()):
        _slice(panels[row, 0], hu[d], window, spacing[1] / spacing[2], f"axial {d}, {name}")
        _slice(panels[row, 1], hu[:, h], window, spacing[0] / spacing[2], f"coronal {h}, {name}")
    for row, (title, key) in enumerate({"written": "prediction", "reference": "reference"}.items()):
        axis = panels[row, 2]
        axis.axis("off")
        text = textwrap.fill(str(record.get(key, "")), 78)
        axis.text(0, 1, f"{title}\n\n{text}", va="top", fontsize=8, family="DejaVu Sans")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _slice(axis: Axes, image: npt.NDArray[np.int16], window: tuple[int, int], aspect: float, title: str) -> None:
    axis.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect, interpolation="nearest")
    axis.set_title(title, fontsize=8)
    axis.set_xticks([0, image.shape[1] - 1], ["R", "L"])
    axis.set_yticks([])
