"""One run of the ablations: two stages on kept features, then the held-out reports and their scores."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from lightning.pytorch import seed_everything

from benchmarks.studies.medregion.packing import PackedReportLightningModule
from ct_vlm.cli.demo.training import train_stage
from ct_vlm.datamodules import FeatureDataModule
from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.regional import region_scores
from ct_vlm.models import medregion_ct, transfer
from ct_vlm.models.medregion_ct import CONFIGS
from ct_vlm.tasks import OptimizerConfig, ReportLightningModule
from ct_vlm.tasks.report_scores import score_reports
from ct_vlm.text import MEDREGION_REGIONS, strip_region_prefixes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.studies.medregion.recipe import AblationRecipe, TrainRecipe
    from ct_vlm.datamodules import FeatureDataset
    from ct_vlm.decoders import CausalLMDecoder
    from ct_vlm.encoders import SliceEncoder
    from ct_vlm.transforms import CTPreset

ABLATIONS: dict[str, dict[str, Any]] = {
    "R² only": {"mask_tokens": False, "attributes": False},
    "R² + mask": {"attributes": False},
    "R² + attributes": {"mask_tokens": False},
    "full": {},
    "LITA": {"policy": "uniform", "mask_tokens": False, "attributes": False},
}
"""Rows of the paper's Table 1, as arguments of :func:`ct_vlm.models.medregion_ct`."""

LONGER = {f"{name}, longer": options for name, options in ABLATIONS.items()}
"""The same with more steps of stage 2: to be compared with each other only."""

IMPRESSION_PROMPT = "Write the impression:"
"""What stage 1 asks for."""

_KEPT = ("micro_precision", "micro_recall", "micro_f1", "macro_f1", "bleu_mean", "rouge_l", "distinct_reports")


class Parts:
    """What all runs share: the frozen encoder and the language model to start from.

    Args:
        encoder: Frozen encoder.
        decoder: Language model that was pretrained on texts.
        preset: Preprocessing that belongs to the encoder.
    """

    def __init__(self, encoder: SliceEncoder, decoder: CausalLMDecoder, preset: CTPreset) -> None:
        self.encoder, self.decoder, self.preset = encoder, decoder, preset

    def task(
        self, options: Mapping[str, Any], recipe: AblationRecipe, training: TrainRecipe, *, stage: Literal[1, 2]
    ) -> ReportLightningModule:
        """Return the task of a stage, with untrained connectors.

        Args:
            options: Of :func:`ct_vlm.models.medregion_ct`.
            recipe: Settings.
            training: Settings of this part of training.
            stage: 1 is asked for whole texts, 2 for regions.
        """
        size = replace(
            CONFIGS["tiny"],
            num_slices=_slices_of(self.preset),
            slow_grid=recipe.slow_grid,
            uniform=(len(MEDREGION_REGIONS), recipe.slow_grid),
        )
        model = medregion_ct(size, tokenizer=self.decoder.tokenizer, encoder=self.encoder, stage=stage, **options)
        transfer(self.decoder, model.decoder)
        model.preset = self.preset
        kind = ReportLightningModule if stage == 1 else PackedReportLightningModule
        task: ReportLightningModule = kind.from_model(
            model,
            OptimizerConfig("muon", lr=training.lr),
            frozen=["encoder"],
            generation={"max_new_tokens": recipe.max_new_tokens},
        )
        return task


def _slices_of(preset: CTPreset) -> int:
    """Return the slices of a volume that a preset makes."""
    return int((preset.size or (0,))[0] or 0)


def train_connector(
    out: Path, parts: Parts, scans: FeatureDataset, policy: str, recipe: AblationRecipe, seed: int, *, progress: bool
) -> ReportLightningModule:
    """Train stage 1, or read it: from R² tokens to impressions, then to the texts of regions.

    An impression is a dozen words that all depend on the image, so that the connector learns from
    every one of them. All sets of parts that choose slices alike go on from here.

    Args:
        out: Folder of the seed.
        parts: What all runs share.
        scans: Training scans.
        policy: How slices are chosen.
        recipe: Settings.
        seed: Seed of weights and orders.
        progress: Show progress bars.
    """
    options = {"policy": policy, "mask_tokens": False, "attributes": False}
    seed_everything(seed, verbose=False)
    asked = scans.select(
        range(len(scans)),
        report=[item["impressions"] for item in scans.items],
        prompt=[IMPRESSION_PROMPT] * len(scans),
    )
    first = parts.task(options, recipe, recipe.impression, stage=1)
    first = _fit(first, asked, recipe.impression, out / f"stage1_{policy}", seed, progress=progress)
    second = parts.task(options, recipe, recipe.connector, stage=2)
    _go_on(first, second)
    taught = teachable(scans, recipe.normal_share, seed)
    return _fit(second, taught, recipe.connector, out / f"stage1_{policy}_regions", seed, progress=progress)


def train_report(
    out: Path,
    parts: Parts,
    scans: FeatureDataset,
    options: Mapping[str, Any],
    recipe: AblationRecipe,
    seed: int,
    *,
    longer: bool = False,
    progress: bool,
) -> ReportLightningModule:
    """Train stage 2, or read it: connectors and language model, from the connector of stage 1.

    Args:
        out: Folder of the run, in that of the seed.
        parts: What all runs share.
        scans: Training scans.
        options: Of :func:`ct_vlm.models.medregion_ct`.
        recipe: Settings.
        seed: Seed of weights and orders.
        longer: Whether stage 2 has the steps of ``recipe.longer``.
        progress: Show progress bars.
    """
    policy = str(options.get("policy", "region_argmax"))
    training = recipe.longer if longer else recipe.report
    first = train_connector(out.parent, parts, scans, policy, recipe, seed, progress=progress)
    seed_everything(seed, verbose=False)
    task = parts.task(options, recipe, training, stage=2)
    _go_on(first, task)
    taught = teachable(scans, recipe.normal_share, seed)
    return _fit(task, taught, training, out / "stage2", seed, progress=progress)


def teachable(scans: FeatureDataset, share: float, seed: int) -> FeatureDataset:
    """Return scans without most texts of normal regions, which all say the same.

    Args:
        scans: Training scans.
        share: Share of texts without a finding that is kept.
        seed: Decides which.
    """
    rng = np.random.default_rng(seed)
    labeler = RuleLabeler()
    kept: list[dict[str, str]] = []
    for item in scans.items:
        texts = item["region_reports"]
        found = np.asarray(labeler(list(texts.values()))).any(1)
        drawn = rng.random(len(texts)) < share
        kept.append({name: text for (name, text), keep in zip(texts.items(), found | drawn, strict=True) if keep})
    rows = [row for row, texts in enumerate(kept) if texts]
    return scans.select(rows, region_reports=[kept[row] for row in rows])


def _go_on(first: ReportLightningModule, then: ReportLightningModule) -> None:
    """Hand the connector of R² tokens and the language model to the next part of training."""
    transfer(first.connectors[0], then.connectors[0])
    transfer(first.decoder, then.decoder)


def _fit(
    task: ReportLightningModule, scans: FeatureDataset, stage: TrainRecipe, folder: Path, seed: int, *, progress: bool
) -> ReportLightningModule:
    data = partial(FeatureDataModule, {"train": scans}, batch_size=stage.batch_size, seed=seed)
    return train_stage(lambda: task, data, folder, steps=stage.steps, processes=1, progress=progress)


def score_run(records: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return the scores of a run: whole reports, another patient's, and regions.

    Args:
        records: From :func:`benchmarks.studies.records.held_out_records`.
        seed: Seed of the shuffled control.
    """
    plain = [{**record, "prediction": strip_region_prefixes(record["prediction"])} for record in records]
    scores = score_reports(plain, seed)
    regions = region_scores(
        [record["region_reports"] for record in records],
        [record["region_references"] for record in records],
        "medregion",
    )
    kept = {key: scores[key] for key in _KEPT if key in scores}
    per_region = {
        name: {key: values.get(key) for key in ("micro_f1", "bleu_mean")} for name, values in regions.regions.items()
    }
    return {
        **kept,
        "shuffled_micro_f1": scores["shuffled_micro_f1"],
        "shuffled_macro_f1": scores["shuffled_macro_f1"],
        "per_label": {name: cells["f1"] for name, cells in scores["per_label"].items()},
        "regions": per_region,
        "labeler": scores["labeler"],
        "protocol": scores["protocol"],
    }
