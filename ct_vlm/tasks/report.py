"""The one generic report task: train, validate, test and predict any vision-language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchmetrics import MeanMetric

from ct_vlm.models import VisionLanguageModel
from ct_vlm.tasks.base import TrainingTask
from ct_vlm.tasks.checks import check_finite_values, check_same_preset, check_same_regions
from ct_vlm.tasks.grounding_records import grounding_records
from ct_vlm.tasks.records import EpochRecords, batch_size
from ct_vlm.tasks.report_records import region_records, report_records
from ct_vlm.tasks.report_scores import score_reports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ct_vlm.decoders import Decoder
    from ct_vlm.encoders import Encoder
    from ct_vlm.modules import Connector
    from ct_vlm.tasks.optimizer import OptimizerConfig
    from ct_vlm.text.prompts import ReportPrompt
    from ct_vlm.text.region_prompts import RegionPrompts
    from ct_vlm.transforms import CTPreset


class ReportLightningModule(TrainingTask, VisionLanguageModel):
    """Train a model of encoder, connectors and decoder to write reports.

    The four published systems are configurations of this task. Validation logs the loss over all
    target tokens; test writes every report and scores it, and scores it again against the
    reference of another patient (the shuffled-image control).

    Args:
        encoder: Volume to features.
        connectors: Features to visual context.
        decoder: Visual context to text.
        prompt: Instruction that opens every text.
        preset: Preprocessing of the volumes, stored in the checkpoint.
        optimizer: Optimizer and schedule.
        frozen: Parts that do not train; the encoder, as in U-VLM's plans.
        generation: Options of the decoder's ``generate`` in test, in predict and, where a call
            gives no others, in ``generate``.
        shuffle_seed: Seed of the shuffled-image control.
        init_from: Parts to fill from earlier checkpoints, see :meth:`TrainingTask.set_training`.
        max_length: Longest training text in tokens, see :class:`VisionLanguageModel`.
        region_prompts: Write a text for one region after another, see :class:`VisionLanguageModel`.

    Shape:
        - Batch: ``image (B, C, D, H, W)`` (or ``features``), ``report`` (B strings), optionally
          ``region_reports`` (B dicts), ``prompt`` (B strings), ``labels (B, K)``, ``patient_id``, ``volume_id``.

    References:
        U-VLM, arXiv 2603.00479 (stage 3, frozen encoder).
    """

    def __init__(
        self,
        encoder: Encoder,
        connectors: Sequence[Connector],
        decoder: Decoder,
        prompt: ReportPrompt | str | None = None,
        preset: CTPreset | str | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        frozen: Sequence[str] = ("encoder",),
        generation: dict[str, Any] | None = None,
        shuffle_seed: int = 0,
        init_from: dict[str, str] | None = None,
        max_length: int | None = None,
        region_prompts: RegionPrompts | None = None,
    ) -> None:
        options: dict[str, Any] = {"max_length": max_length, "region_prompts": region_prompts}
        VisionLanguageModel.__init__(self, encoder, connectors, decoder, prompt, preset, **options)
        self.generation = {"max_new_tokens": 256, **(generation or {})}
        self.shuffle_seed = shuffle_seed
        self.val_loss = MeanMetric(nan_strategy="error")
        self._records = EpochRecords()
        self.set_training(optimizer, frozen, init_from)

    @classmethod
    def from_model(cls, model: VisionLanguageModel, optimizer: OptimizerConfig | None = None, **options: Any) -> Any:
        """Return a task that trains the parts of a built model.

        Args:
            model: E.g. what :func:`ct_vlm.models.u_vlm` returns; its parts are used, not copied.
            optimizer: Optimizer and schedule.
            options: Further arguments of the constructor.
        """
        connectors: list[Any] = list(model.connectors)
        for name in ("max_length", "region_prompts"):
            if getattr(model, name) is not None:
                options.setdefault(name, getattr(model, name))
        return cls(model.encoder, connectors, model.decoder, model.prompt, model.preset, optimizer, **options)

    def on_fit_start(self) -> None:
        """Check that data and model are of one preset and of the same regions, and that checkpoints can be written."""
        super().on_fit_start()
        self._check_data()

    def on_validation_start(self) -> None:
        """Check that data and model are of one preset and of the same regions."""
        self._check_data()

    def on_test_start(self) -> None:
        """Check that data and model are of one preset and of the same regions."""
        self._check_data()

    def on_predict_start(self) -> None:
        """Check that data and model are of one preset and of the same regions."""
        self._check_data()

    def _check_data(self) -> None:
        data = getattr(self.trainer, "datamodule", None)
        check_same_preset(self.preset, data)
        by_mask = any("region_masks" in getattr(connector, "reads", ()) for connector in self.connectors)
        check_same_regions(None if self.region_prompts is None else self.region_prompts.names, data, by_mask=by_mask)

    def generate_batch(self, batch: Mapping[str, Any], **generation: Any) -> list[str]:
        """Write one report a sample of a batch, with the task's ``generation`` as defaults.

        Args:
            batch: Needs ``image`` (or ``features``).
            generation: Options of the decoder's ``generate``, in place of the task's.
        """
        return super().generate_batch(batch, **{**self.generation, **generation})

    def generate_regions(self, batch: Mapping[str, Any], **generation: Any) -> list[dict[str, str]]:
        """Write the text of every region of a batch, with the task's ``generation`` as defaults.

        Args:
            batch: Needs ``image`` (or ``features``).
            generation: Options of the decoder's ``generate``, in place of the task's.
        """
        return super().generate_regions(batch, **{**self.generation, **generation})

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the mean loss over the batch's target tokens."""
        loss = self(batch).loss
        check_finite_values(loss, batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=batch_size(batch))
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Update the loss, weighted by target tokens."""
        output = self(batch)
        check_finite_values(output.loss, batch)
        self.val_loss.update(output.loss, output.num_targets)
        self.log("val/loss", self.val_loss, on_epoch=True, prog_bar=True, batch_size=batch_size(batch))

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Write and record the batch's reports."""
        self._records.add(self.predict_step(batch, batch_idx))

    def on_test_epoch_end(self) -> None:
        """Score all reports of all processes."""
        scores = score_reports(self._records.merge(), self.shuffle_seed)
        numbers = {f"test/{k}": float(v) for k, v in scores.items() if isinstance(v, int | float)}
        self.log_dict(numbers)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return one record a sample, see :func:`ct_vlm.tasks.report_records.report_records`.

        Where the batch has masks of regions, :func:`ct_vlm.tasks.grounding_records.grounding_records`
        says what they add.
        """
        has_masks = batch.get("region_masks") is not None and batch["region_masks"].ndim == 5
        if has_masks:  # encoded once, for the texts and for the slices behind them
            batch = {**batch, "features": self.encode_image(batch)}
        if self.region_prompts is not None and self.asks_regions(batch):
            records = region_records(self.generate_regions(batch), self.region_prompts, batch, batch_idx)
        else:
            records = report_records(self.generate_batch(batch), batch, batch_idx)
        for record, grounding in zip(records, grounding_records(self, batch) if has_masks else (), strict=has_masks):
            record.update(grounding)
        return records
