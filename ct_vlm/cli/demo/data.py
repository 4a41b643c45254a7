"""The demo's data: phantoms on disk in CT-RATE's layout, read like any other CT-RATE tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.phantoms import write_ct_rate
from ct_vlm.transforms import CTPreset, get_preset

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.cli.demo.recipe import DemoRecipe
    from ct_vlm.datamodules import CTRateDataModule, SegmentationDataModule
    from ct_vlm.phantoms import PhantomManifest


SECTIONS = ("findings", "impressions")
"""Report sections that stage 3 trains on."""


def demo_preset(recipe: DemoRecipe) -> CTPreset:
    """Return the preprocessing that the demo's model is trained with and stores."""
    windows = get_preset("phantom").windows
    return CTPreset(name="demo", size=recipe.shape, windows=windows, norm="unit", notes="Grid of the demo's phantoms.")


def write_phantoms(root: Path, recipe: DemoRecipe, seed: int, workers: int, *, progress: bool) -> PhantomManifest:
    """Write the phantoms; a finished tree is left as it is."""
    count = recipe.train_volumes + recipe.held_out_volumes
    return write_ct_rate(
        root,
        count,
        shape=recipe.shape,
        seed=seed,
        valid_fraction=recipe.held_out_volumes / count,
        workers=workers,
        progress=progress,
    )


def segmentation_data(root: Path, recipe: DemoRecipe, processes: int, seed: int) -> SegmentationDataModule:
    """Return the data of stage 1: volumes with organ and finding masks."""
    from ct_vlm.datamodules import SegmentationDataModule

    data = SegmentationDataModule(
        root,
        demo_preset(recipe),
        batch_size=recipe.segmentation.batch_size // processes,
        val_fraction=0.0,
        seed=seed,
        cache_dir=root.parent / "cache",
        drop_last=True,
    )
    data.setup("fit")
    return data


def report_data(root: Path, recipe: DemoRecipe, processes: int, seed: int) -> CTRateDataModule:
    """Return the data of stages 2 and 3: volumes with labels and reports."""
    from ct_vlm.datamodules import CTRateDataModule

    data = CTRateDataModule(
        root,
        demo_preset(recipe),
        batch_size=recipe.classification.batch_size // processes,
        eval_batch_size=75,
        val_fraction=0.0,
        text="findings",
        seed=seed,
        cache_dir=root.parent / "cache",
        drop_last=True,
    )
    data.setup("fit")
    data.setup("test")
    return data


def section_texts(data: CTRateDataModule, section: str) -> dict[str, str]:
    """Return one section of the training reports by volume."""
    from ct_vlm.datasets import CTRateDataset

    dataset = CTRateDataset(data.root, "train", preset=data.preset, text=section, missing_text="empty")
    return {sample.name.volume_id: sample.report or "" for sample in dataset.samples}
