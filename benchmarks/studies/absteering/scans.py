"""Scans of the study: phantoms in CT-RATE's layout, seen by the tower once, with lists of their abnormalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ct_vlm.cache import FeatureCache, model_identity
from ct_vlm.datamodules import CachedFeatureDataset, CTRateDataModule, FeatureDataset, precompute
from ct_vlm.datasets.steering import AbnormalityBuilder
from ct_vlm.models.absteering import CONFIGS
from ct_vlm.phantoms import write_ct_rate
from ct_vlm.text import parse_abnormalities, render_abnormalities, render_cot

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.studies.absteering.recipe import StudyRecipe
    from ct_vlm.encoders import VideoLMEncoder


def steering_scans(
    out: Path, encoder: VideoLMEncoder, recipe: StudyRecipe, seed: int, *, progress: bool
) -> dict[str, FeatureDataset]:
    """Return visual tokens, report, labels and list of all scans, by split.

    Phantoms and tokens are written once. Both backbones see the same phantoms.

    Args:
        out: Folder of the study.
        encoder: Frozen tower.
        recipe: Settings.
        seed: Seed of the phantoms.
        progress: Show progress bars.
    """
    own, root, backbone = recipe.steering, out / f"seed{seed}" / "phantoms", encoder.family.model_type
    count = own.train + own.held_out
    share = own.held_out / count
    # a volume a patient: the next one in a list is another patient's
    write_ct_rate(
        root,
        count,
        shape=recipe.shape,
        seed=seed,
        valid_fraction=share,
        second_scan=0.0,
        second_recon=0.0,
        masks=False,
        workers=0,
        progress=progress,
    )
    preset = CONFIGS["tiny"].preset[backbone]
    data = CTRateDataModule(root, preset, val_fraction=0.0, seed=seed)
    data.setup("fit")
    data.setup("test")
    folder = out / backbone / f"seed{seed}" / "tokens"
    cache = FeatureCache(folder, model_identity(encoder), preset.to_config(), dtype="float32")
    found = {}
    for name in ("train", "test"):
        precompute(encoder, data.datasets[name], cache, preset, batch_size=16, progress=progress)
        found[name] = _with_lists(CachedFeatureDataset(data.datasets[name], cache))
    return found


def steered(scans: FeatureDataset) -> FeatureDataset:
    """Return scans whose target is the list, then the report.

    Args:
        scans: Of :func:`steering_scans`.
    """
    texts = [render_cot(parse_abnormalities(item["abnormalities"]), item["report"]) for item in scans.items]
    return scans.select(range(len(scans)), report=texts)


def without_lists(scans: FeatureDataset) -> FeatureDataset:
    """Return scans that know of no list: what is written of them is taken for a report.

    Args:
        scans: Of :func:`steering_scans`.
    """
    items = [{key: value for key, value in item.items() if key != "abnormalities"} for item in scans.items]
    return FeatureDataset(scans.levels, scans.grids, items)


def with_other_videos(scans: FeatureDataset) -> FeatureDataset:
    """Return scans with the visual tokens of the next patient.

    Args:
        scans: Of :func:`steering_scans`, a scan a patient.
    """
    return FeatureDataset([level.roll(1, 0) for level in scans.levels], scans.grids, scans.items)


def _with_lists(cached: CachedFeatureDataset) -> FeatureDataset:
    """Read all items into memory."""
    items = [cached[index] for index in range(len(cached))]
    levels = [torch.stack(level) for level in zip(*(item.pop("levels") for item in items), strict=True)]
    build = AbnormalityBuilder()
    for item in items:
        item["abnormalities"] = render_abnormalities(build.from_report(item["report"]))
    return FeatureDataset(levels, cached.grids, items)
