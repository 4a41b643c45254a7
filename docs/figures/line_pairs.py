"""Draw what plain and anti-aliased resampling make of line pairs: ``python docs/figures/line_pairs.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from ct_vlm.transforms.resample import resample_antialias, resample_linear

SPACING_MM, TARGET_MM, SIDE = 0.75, 3.0, 512
INTERPOLATIONS = {"linear": resample_linear, "antialias": resample_antialias}


def waves(phase: np.ndarray) -> np.ndarray:
    """Return HU between 0 and 1000; no bars, whose edges the source grid itself could not hold."""
    return np.rint(500 + 500 * np.cos(2 * np.pi * phase)).astype(np.int16)


def zone_plate() -> np.ndarray:
    """Return rings that narrow to the border, where a pair is 2 mm wide."""
    place = (np.arange(SIDE) + 0.5 - SIDE / 2) * SPACING_MM
    radius = np.hypot(place[:, None], place[None])
    return waves(radius**2 / (2.0 * SIDE * SPACING_MM))[None]


def contrast(period_mm: float, interpolation: str) -> float:
    """Return the share of a pattern's standard deviation that is left after resampling."""
    pattern = waves((np.arange(SIDE) + 0.5) * SPACING_MM / period_mm)[None, None]
    size = (1, 1, round(SIDE * SPACING_MM / TARGET_MM))
    result = INTERPOLATIONS[interpolation](pattern, size)[..., 2:-2]
    return float(result.astype(float).std() / pattern.astype(float).std())


def main() -> None:
    """Write the picture beside this file."""
    mpl.use("Agg")
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    plate = zone_plate()
    target = (1, *(round(n * SPACING_MM / TARGET_MM) for n in plate.shape[1:]))
    pictures = {f"rings, {SPACING_MM} mm": plate}
    pictures |= {f"{name}, {TARGET_MM:.0f} mm": resize(plate, target) for name, resize in INTERPOLATIONS.items()}
    for panel, (title, picture) in zip(panels, pictures.items(), strict=False):
        panel.imshow(picture[0], cmap="gray", vmin=0, vmax=1000, interpolation="nearest")
        panel.set_title(title)
        panel.axis("off")
    frequencies = np.linspace(0.02, 0.6, 200)
    for name in INTERPOLATIONS:
        panels[3].plot(frequencies, [contrast(1 / value, name) for value in frequencies], label=name)
    panels[3].axvline(1 / (2 * TARGET_MM), color="grey", linestyle=":")
    panels[3].text(1 / (2 * TARGET_MM), 1.05, f" limit of {TARGET_MM:.0f} mm voxels", color="grey", fontsize=8)
    panels[3].set(xlabel="line pairs per mm", ylabel="contrast left", ylim=(0, 1.15))
    panels[3].legend(loc="upper right", bbox_to_anchor=(1, 0.92))
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
