"""Scans of the ablations: phantoms in RadGenome's layout, encoded once and kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.studies.medregion.encoder import study_preset
from ct_vlm.attributes import PatientAttributes, render_attributes
from ct_vlm.datamodules import FeatureDataset, RadGenomeDataModule, encode_features
from ct_vlm.datasets.radgenome import measure_radgenome
from ct_vlm.features import Features
from ct_vlm.files import atomic_path
from ct_vlm.phantoms import PhantomManifest, write_radgenome

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.studies.medregion.recipe import AblationRecipe, Shape
    from ct_vlm.encoders import SliceEncoder

KEPT_GRID = (4, 4)
"""Rows and columns of tokens of a slice that are kept."""


def write_scans(out: Path, recipe: AblationRecipe, shape: Shape, seed: int, *, progress: bool) -> RadGenomeDataModule:
    """Write phantoms with masks and measure organs on their masks; return the data module over them.

    The masks of lesions that the phantoms know are not in the tree, so attributes are those of organs:
    volumes of lungs, heart, liver and kidneys.

    Args:
        out: Folder of the seed.
        recipe: How many.
        shape: Their grid.
        seed: Seed of the tree.
        progress: Show progress bars.
    """
    root, count = out / "phantoms", recipe.train + recipe.held_out
    write_radgenome(
        root, count, shape=shape, seed=seed, valid_fraction=recipe.held_out / count, workers=0, progress=progress
    )
    measure_radgenome(root, out / "attributes", kind="reference", progress=progress)
    tables = [root / f"labels/{split}_predicted_labels.csv" for split in ("train", "valid")]
    data = RadGenomeDataModule(
        root, "six", study_preset(shape), labels=tables, attributes=out / "attributes", val_fraction=0.0, seed=seed
    )
    data.setup("fit")
    data.setup("test")
    return data


class CoarseEncoder(nn.Module):
    """An encoder whose tokens are averaged to a coarser grid in each slice, to be kept in less room.

    R² pooling averages whole slices, and slices that it keeps in detail to a grid that divides this one: it
    gives the same tokens from either.

    Args:
        encoder: Slice encoder.
        grid: Rows and columns of a slice that are left.
    """

    def __init__(self, encoder: SliceEncoder, grid: tuple[int, int] = KEPT_GRID) -> None:
        super().__init__()
        self.encoder, self.grid = encoder, grid

    def forward(self, image: Tensor) -> Features:
        """Return the averaged features of a volume."""
        features = self.encoder(image)
        maps = [features.map(level) for level in range(len(features.levels))]
        return Features.from_maps([F.adaptive_avg_pool3d(x, (x.shape[2], *self.grid)) for x in maps])


def encoded_scans(
    out: Path, encoder: SliceEncoder, data: RadGenomeDataModule, *, progress: bool
) -> dict[str, FeatureDataset]:
    """Return features and everything else of all scans, by split; read from the folder where they are kept.

    Args:
        out: Folder of the seed.
        encoder: Frozen encoder.
        data: The scans.
        progress: Show progress bars.
    """
    records = {record.name: record for record in PhantomManifest.load(out / "phantoms").volumes}
    found = {}
    for name in ("train", "test"):
        file = out / f"{name}.pt"
        if not file.is_file():
            made = encode_features(CoarseEncoder(encoder), data, name, progress=progress)
            with atomic_path(file) as path:
                torch.save({"levels": made.levels, "grids": made.grids, "items": made.items}, path)
        # mapped: several runs on one machine share the pages
        kept = torch.load(file, mmap=True, weights_only=True)
        items = [
            {
                **item,
                "attributes": _measured(item["attributes"]),
                "impressions": records[item["volume_id"]].impressions_text,
            }
            for item in kept["items"]
        ]
        found[name] = FeatureDataset(kept["levels"], [tuple(grid) for grid in kept["grids"]], items)
    return found


def _measured(attributes: dict[str, Any]) -> str:
    """Return the text of attributes without what was not measured: there are no masks of lesions."""
    text = render_attributes(PatientAttributes.from_dict(attributes))
    return re.sub(r" [A-Z][a-z ]+: not assessed\.", "", text)
