"""Stage 2 of U-VLM: abnormality classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ct_vlm.metrics.functional import classifier_scores
from ct_vlm.models import ClassificationModel
from ct_vlm.tasks.base import TrainingTask
from ct_vlm.tasks.checks import check_finite_values
from ct_vlm.tasks.records import EpochRecords, probability_records, sample_ids
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.encoders import Encoder
    from ct_vlm.modules import QueryClassificationHead
    from ct_vlm.tasks.optimizer import OptimizerConfig


class ClassificationLightningModule(TrainingTask, ClassificationModel):
    """Train encoder and classification head on abnormality labels.

    Args:
        encoder: Encoder, usually handed over from stage 1 by :func:`ct_vlm.models.transfer`.
        head: Classification head.
        optimizer: Optimizer and schedule.
        pos_weight: Weight of positives, one a label or one for all (the paper's is 1).
        frozen: Parts that do not train.
        label_names: Names of the labels; CT-RATE's for a head of 18, else numbers.
        init_from: Parts to fill from earlier checkpoints, see :meth:`TrainingTask.set_training`.

    Shape:
        - Batch: ``image (B, C, D, H, W)``, ``labels (B, K)`` with NaN where unknown.

    References:
        U-VLM, arXiv 2603.00479.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: QueryClassificationHead,
        optimizer: OptimizerConfig | None = None,
        *,
        pos_weight: float | Sequence[float] = 1.0,
        frozen: Sequence[str] = (),
        label_names: Sequence[str] | None = None,
        init_from: dict[str, str] | None = None,
    ) -> None:
        ClassificationModel.__init__(self, encoder, head)
        weight = [pos_weight] * head.num_labels if isinstance(pos_weight, int | float) else list(pos_weight)
        self.pos_weight = tuple(float(w) for w in weight)
        numbered = CT_RATE_LABELS if head.num_labels == len(CT_RATE_LABELS) else map(str, range(head.num_labels))
        self.label_names = tuple(label_names or numbered)
        self._records = EpochRecords()
        self.set_training(optimizer, frozen, init_from)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return binary cross-entropy over the known labels."""
        known = ~labels.isnan()
        weight = logits.new_tensor(self.pos_weight)
        loss = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), pos_weight=weight, reduction="none")
        return (loss * known).sum() / known.sum().clamp(min=1)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the training loss."""
        loss = self.loss(self(batch["image"]), batch["labels"])
        check_finite_values(loss, batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Record the batch's logits."""
        self._evaluate(batch, batch_idx)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Record the batch's logits."""
        self._evaluate(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the epoch."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the epoch."""
        self._log_scores("test")

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return one record a sample with the probability of each label."""
        return probability_records(batch, self(batch["image"]).sigmoid(), self.label_names, batch_idx)

    def _evaluate(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        logits = self(batch["image"]).float().cpu()
        check_finite_values(logits, batch, "logits")
        labels = batch["labels"].float().cpu()
        ids = sample_ids(batch, len(logits), batch_idx)
        rows = zip(ids, logits.tolist(), labels.tolist(), strict=True)
        self._records.add([{"id": name, "logits": row, "labels": target} for name, row, target in rows])

    def _log_scores(self, stage: str) -> None:
        records = self._records.merge()
        logits = torch.tensor([r["logits"] for r in records])
        labels = torch.tensor([r["labels"] for r in records])
        values = {
            "loss": float(self.loss(logits, labels)),
            **classifier_scores(logits.sigmoid(), labels, self.label_names),
        }
        numbers = {f"{stage}/{k}": float(v) for k, v in values.items() if isinstance(v, int | float)}
        self.log_dict(numbers, rank_zero_only=False)
