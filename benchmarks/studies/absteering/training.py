"""Both stages: reports with the list or without, then preferences."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lightning.pytorch import seed_everything

from benchmarks.studies.absteering.pairs import list_pairs
from benchmarks.studies.absteering.scans import steered
from ct_vlm.cli.demo.training import train_stage
from ct_vlm.datamodules import FeatureDataModule, PreferenceDataset
from ct_vlm.models import absteering, transfer
from ct_vlm.tasks import DPOLightningModule, OptimizerConfig, ReportLightningModule

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.studies.absteering.pairs import Kind
    from benchmarks.studies.absteering.recipe import SteeringRecipe
    from ct_vlm.datamodules import FeatureDataset
    from ct_vlm.decoders import VideoLMDecoder
    from ct_vlm.models import VisionLanguageModel

_FROZEN = ("encoder", "connectors")


class Start:
    """What all runs of a backbone start from.

    Args:
        checkpoint: Model of the same architecture, in transformers' layout.
        decoder: Language model of the stand-in.
    """

    def __init__(self, checkpoint: Path, decoder: VideoLMDecoder) -> None:
        self.checkpoint, self.decoder = checkpoint, decoder

    def model(self, decoder: Any = None, *, steering: bool) -> VisionLanguageModel:
        """Return a model that reads visual tokens from disk.

        Args:
            decoder: Whose weights it has; the stand-in's if None.
            steering: Whether it is asked for the list.
        """
        backbone: Any = self.decoder.family.model_type
        built = absteering("tiny", backbone=backbone, model=str(self.checkpoint), steering=steering, cached=True)
        transfer(self.decoder if decoder is None else decoder, built.decoder)
        return built


def train_reports(
    out: Path, start: Start, scans: FeatureDataset, recipe: SteeringRecipe, seed: int, *, steering: bool, progress: bool
) -> ReportLightningModule:
    """Train stage 1, or read it.

    Args:
        out: Folder of the run.
        start: What it starts from.
        scans: Training scans.
        recipe: Settings.
        seed: Seed of the order.
        steering: Whether the list comes before the report.
        progress: Show progress bars.
    """
    seed_everything(seed, verbose=False)
    stage = recipe.report
    task: ReportLightningModule = ReportLightningModule.from_model(
        start.model(steering=steering),
        OptimizerConfig("muon", lr=stage.lr),
        frozen=_FROZEN,
        generation={"max_new_tokens": recipe.max_new_tokens},
    )
    taught = steered(scans) if steering else scans
    data = partial(FeatureDataModule, {"train": taught}, batch_size=stage.batch_size, seed=seed)
    return train_stage(lambda: task, data, out, steps=stage.steps, processes=1, progress=progress)


def train_preferences(
    out: Path,
    start: Start,
    first: ReportLightningModule,
    scans: FeatureDataset,
    kind: Kind,
    recipe: SteeringRecipe,
    seed: int,
    *,
    steering: bool,
    progress: bool,
) -> DPOLightningModule:
    """Train stage 2, or read it.

    Args:
        out: Folder of the run.
        start: What stage 1 has started from.
        first: Stage 1.
        scans: Training scans.
        kind: What is wrong with the worse lists.
        recipe: Settings.
        seed: Seed of pairs and order.
        steering: Whether stage 1 was taught the list.
        progress: Show progress bars.
    """
    seed_everything(seed, verbose=False)
    stage = recipe.preference
    task: DPOLightningModule = DPOLightningModule.from_model(
        start.model(first.decoder, steering=steering),
        OptimizerConfig("adamw", lr=stage.lr),
        beta=recipe.beta,
        sft_weight=recipe.sft_weight,
        ends=False,
        frozen=_FROZEN,
        generation={"max_new_tokens": recipe.max_new_tokens},
    )
    pairs: Any = PreferenceDataset(scans, list_pairs(scans, kind, seed))
    data = partial(FeatureDataModule, {"train": pairs}, batch_size=stage.batch_size, seed=seed)
    return train_stage(lambda: task, data, out, steps=stage.steps, processes=1, progress=progress)
