"""Draw the slices that represent the regions of a phantom: ``python docs/figures/region_slices.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt

from ct_vlm.datasets import RadGenomeDataset
from ct_vlm.ops.region_pool import mask_slice_counts, representative_slices, uniform_slices
from ct_vlm.phantoms import write_radgenome
from ct_vlm.transforms import CTPreset

SLICES = 32


def main() -> None:
    """Write the picture beside this file."""
    mpl.use("Agg")
    with tempfile.TemporaryDirectory() as folder:
        write_radgenome(folder, 1, shape=(48, 96, 96), seed=3, workers=0, progress=False)
        data = RadGenomeDataset(folder, regions="six", preset=CTPreset("figure", size=(SLICES, 126, 126)))
        item = data[0]
    image, masks = item["image"][0], item["region_masks"]
    counts = mask_slice_counts(masks[None])
    chosen = representative_slices(counts)[0][0].tolist()
    uniform = uniform_slices(SLICES, len(chosen)).tolist()
    figure, rows = plt.subplots(2, len(chosen), figsize=(13, 4.9), layout="constrained")
    for number, (region, index) in enumerate(zip(data.regions, chosen, strict=True)):
        for title, panel, place in ((region, rows[0, number], index), ("", rows[1, number], uniform[number])):
            panel.imshow(image[place], cmap="gray", vmin=-1000, vmax=400, interpolation="nearest")
            mask = masks[number, place]
            if mask.any():
                panel.contour(mask, levels=[0.5], colors=["#ffb000"], linewidths=1)
            share = float(counts[0, number, place] / counts[0, number].max().clamp(min=1))
            panel.set_title(f"{title}\nslice {place}: {share:.0%} of the most", fontsize=9)
            panel.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
