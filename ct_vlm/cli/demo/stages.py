"""The three stages of U-VLM on phantoms, each handed the encoder of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ct_vlm.cli.demo.data import SECTIONS, demo_preset, report_data, section_texts, segmentation_data
from ct_vlm.cli.demo.training import train_stage
from ct_vlm.cli.output import say
from ct_vlm.datamodules import FeatureDataModule, FeatureDataset, encode_features
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.models import transfer, u_vlm, u_vlm_classification, u_vlm_segmentation
from ct_vlm.tasks import (
    ClassificationLightningModule,
    OptimizerConfig,
    ReportLightningModule,
    SegmentationLightningModule,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct_vlm.cli.demo.recipe import DemoRecipe, StageRecipe
    from ct_vlm.datamodules import CTRateDataModule
    from ct_vlm.models import VisionLanguageModel
    from ct_vlm.modules import LabelTokens

_USED_LEVELS = (2, 3)
"""Encoder levels that head and connector of the tiny model read."""


class DemoRun:
    """Where a run lives and how it trains.

    Args:
        out: Folder of the run.
        recipe: Settings.
        seed: Seed of weights, orders and phantoms.
        processes: Data-parallel processes.
        progress: Whether to show progress bars.
    """

    def __init__(self, out: Path, recipe: DemoRecipe, seed: int, processes: int, *, progress: bool) -> None:
        self.out, self.recipe, self.seed = out, recipe, seed
        self.processes, self.progress = processes, progress
        self.root = out / "phantoms"

    def segmentation(self) -> SegmentationLightningModule:
        """Train stage 1: masks of organs and findings."""
        stage = self.recipe.segmentation

        def build() -> SegmentationLightningModule:
            model = u_vlm_segmentation("tiny")
            return SegmentationLightningModule(
                model.encoder,
                model.decoder,
                _optimizer(stage),
                label_pooling="max",
                presence_levels=_USED_LEVELS,
            )

        return train_stage(
            build,
            lambda: segmentation_data(self.root, self.recipe, self.processes, self.seed),
            self.out / "stage1_segmentation",
            steps=stage.steps,
            processes=self.processes,
            progress=self.progress,
        )

    def classification(self, previous: SegmentationLightningModule) -> ClassificationLightningModule:
        """Train stage 2: the 18 labels, from the encoder of stage 1."""
        stage = self.recipe.classification

        def build() -> ClassificationLightningModule:
            model = u_vlm_classification("tiny")
            say(f"  encoder: {transfer(previous.encoder, model.encoder)}")
            if model.head.presence is not None and previous.presence is not None:
                say(f"  presence: {transfer(previous.presence, model.head.presence)}")
            return ClassificationLightningModule(model.encoder, model.head, _optimizer(stage))

        return train_stage(
            build,
            lambda: report_data(self.root, self.recipe, self.processes, self.seed),
            self.out / "stage2_classification",
            steps=stage.steps,
            processes=self.processes,
            progress=self.progress,
        )

    def report(self, previous: ClassificationLightningModule, data: CTRateDataModule) -> ReportLightningModule:
        """Train stage 3 from the frozen encoder and head of stage 2: impressions, then findings.

        An impression is a dozen words that all depend on the image; a findings section is a hundred
        that mostly do not. Starting with the former teaches the decoder where to look in a
        fraction of the time (ours; the paper trains on the report at once).
        """
        features = self._features(previous, data)
        impressions = train_stage(
            lambda: self._report_task(previous, data),
            lambda: features("impressions", self.recipe.impression),
            self.out / "stage3_impressions",
            steps=self.recipe.impression.steps,
            processes=self.processes,
            progress=self.progress,
        )
        return train_stage(
            lambda: self._as_task(impressions, self.recipe.report),
            lambda: features("findings", self.recipe.report),
            self.out / "stage3_report",
            steps=self.recipe.report.steps,
            processes=self.processes,
            progress=self.progress,
        )

    def _report_task(self, previous: ClassificationLightningModule, data: CTRateDataModule) -> ReportLightningModule:
        """Return the untrained report task around the parts of stage 2."""
        texts = [text for section in SECTIONS for text in section_texts(data, section).values()]
        model = u_vlm("tiny", tokenizer=train_bpe_tokenizer(sorted(set(texts)), self.recipe.vocab_size))
        labels: LabelTokens = model.connectors[1]  # type: ignore[assignment]
        say(f"  encoder: {transfer(previous.encoder, model.encoder)}")
        say(f"  head: {transfer(previous.head, labels.head)}")
        model.preset = demo_preset(self.recipe)
        return self._as_task(model, self.recipe.impression)

    def _as_task(self, model: VisionLanguageModel, stage: StageRecipe) -> ReportLightningModule:
        task: ReportLightningModule = ReportLightningModule.from_model(
            model,
            _optimizer(stage),
            frozen=("encoder", "connectors.1.head"),
            generation={"max_new_tokens": self.recipe.max_new_tokens},
        )
        return task

    def _features(
        self, previous: ClassificationLightningModule, data: CTRateDataModule
    ) -> Callable[[str, StageRecipe], FeatureDataModule]:
        """Return what makes the cached data of either part; the encoder runs once, when first asked."""
        encoded: list[FeatureDataset] = []

        def make(section: str, stage: StageRecipe) -> FeatureDataModule:
            if not encoded:
                torch.set_num_threads(self.processes)
                encoded.append(
                    encode_features(previous.encoder, data, "train", levels=_USED_LEVELS, progress=self.progress)
                )
                torch.set_num_threads(1)
            texts = section_texts(data, section)
            items = encoded[0].items
            kept = [i for i, item in enumerate(items) if item["volume_id"] in texts]
            values = {"report": [texts[items[i]["volume_id"]] for i in kept]}
            if section != "findings":
                values["prompt"] = ["Write the impression:"] * len(kept)
            train = encoded[0].select(kept, **values)
            return FeatureDataModule({"train": train}, batch_size=stage.batch_size // self.processes, seed=self.seed)

        return make


def _optimizer(stage: StageRecipe) -> OptimizerConfig:
    return OptimizerConfig("muon", lr=stage.lr)
