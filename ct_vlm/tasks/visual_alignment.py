"""Phases 1 and 2 of Ker-VLJEPA: visual tokens learn labels and the places of texts, without a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.losses import InfoNCELoss, imq_mmd, masked_bce, multiple_instance_loss, orthogonality_loss, text_keys
from ct_vlm.losses.weights import check_weights
from ct_vlm.metrics.functional import classifier_scores, clinical_scores
from ct_vlm.models import VisualAlignmentModel
from ct_vlm.tasks.base import TrainingTask
from ct_vlm.tasks.checks import check_finite_values
from ct_vlm.tasks.label_weights import training_weights, weights_of
from ct_vlm.tasks.records import EpochRecords, probability_records, sample_ids
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.encoders import Encoder
    from ct_vlm.models import VisualAlignment
    from ct_vlm.modules import JEPAHead, ZonedVisualTokens
    from ct_vlm.tasks.optimizer import OptimizerConfig
    from ct_vlm.transforms import CTPreset

LOSSES = ("bce", "mil", "orthogonality", "mmd", "info_nce")
PHASE_1 = {"bce": 1.5, "mil": 1.0, "orthogonality": 1.0, "mmd": 0.5}
"""Loss weights of phase 1, the paper's."""
PHASE_2 = {"info_nce": 1.0, "mmd": 0.5}
"""Loss weights of phase 2; the paper names the losses and no weights (inferred)."""
READERS = {
    "classifier": ("bce", "mil"),
    **dict.fromkeys(("jepa", "visual.predictor", "visual.calibrator"), ("mmd", "info_nce")),
}
"""Parts to the losses that read them; every loss reads what is not named."""


class VisualAlignmentLightningModule(TrainingTask, VisualAlignmentModel):
    """Train zone tokens on labels (phase 1) or on the texts of positive findings (phase 2).

    ============== ============================================================ ====================
    loss           what                                                         needs in the batch
    ============== ============================================================ ====================
    bce            labels from the mean zone token                              ``labels``
    mil            labels from the most suspicious zone                         ``labels``
    orthogonality  zone tokens differ                                           nothing
    mmd            tokens lie where the texts of positive conditions lie        ``condition_embeddings``
    info_nce       the volume's embedding finds its own text                    ``text_embedding``
    ============== ============================================================ ====================

    Validation contrasts the samples of one batch of one process with each other, so ``val/info_nce`` depends
    on the size of its batches. ``val/mmd`` and ``train/mmd`` are the biased estimate that trains;
    ``val/mmd_unbiased`` is the one to read, near 0 where tokens lie as texts do.

    Args:
        encoder: Slice encoder.
        visual: Zone attention, predictor and norm calibration.
        jepa: Predicts whitened text embeddings.
        optimizer: Optimizer and schedule.
        losses: Weight of each loss; phase 1's unless given.
        num_labels: Labels of the classifier.
        pos_weight: Weight of positives, one a label or one for all. ``"balanced"`` takes the paper's from the
            training labels as a fit begins, see :func:`ct_vlm.losses.positive_weights`; checkpoints then hold
            the numbers.
        symmetric: Whether texts also look for their volumes in ``info_nce``.
        preset: Preprocessing of volumes.
        frozen: Parts that do not train.
        init_from: Parts to fill from earlier checkpoints, see :meth:`TrainingTask.set_training`.

    Shape:
        - Batch: ``image (B, C, D, H, W)`` or ``features``; ``labels (B, K)``, NaN where unknown;
          ``condition_embeddings (B, P, F)`` and ``condition_mask (B, P)``; ``text_embedding (B, F)``,
          and ``text_key`` or else ``report`` (B strings), where equal ones are no negatives of each other.

    Raises:
        ConfigError: If a loss is unknown, or weights of positives are to come from data without labels.
        DatasetError: If a batch lacks what a loss needs, or a loss is not finite.

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308. The text and a figure of the paper disagree on whether the visual
        encoder trains in phase 2; it does here unless ``frozen`` says otherwise.
    """

    def __init__(
        self,
        encoder: Encoder,
        visual: ZonedVisualTokens,
        jepa: JEPAHead,
        optimizer: OptimizerConfig | None = None,
        *,
        losses: dict[str, float] | None = None,
        num_labels: int = 18,
        pos_weight: float | Sequence[float] | Literal["balanced"] = 1.0,
        symmetric: bool = False,
        preset: CTPreset | str | None = None,
        frozen: Sequence[str] = ("encoder",),
        init_from: dict[str, str] | None = None,
    ) -> None:
        VisualAlignmentModel.__init__(self, encoder, visual, jepa, num_labels, preset)
        self.losses = check_weights(PHASE_1 if losses is None else losses, LOSSES)
        self.pos_weight = weights_of(pos_weight, num_labels)
        self.contrast = InfoNCELoss(symmetric=symmetric, learned="info_nce" in self.losses)
        own = num_labels == len(CT_RATE_LABELS)
        self.label_names = tuple(CT_RATE_LABELS if own else map(str, range(num_labels)))
        self._records = EpochRecords()
        self.set_training(optimizer, frozen, init_from)
        self.set_readers(self.losses, READERS)

    def compute_losses(
        self, found: VisualAlignment, batch: Mapping[str, Any], *, gather: bool = True
    ) -> dict[str, Tensor]:
        """Return each loss before its weight, and their weighted sum as ``loss``.

        Args:
            found: What the model gives for the batch.
            batch: The batch.
            gather: Whether ``info_nce`` takes the texts of all processes; they then need equally many samples.
        """
        ways = {
            "bce": lambda: masked_bce(found.logits, _needed(batch, "labels", "bce"), self._weight(found)),
            "mil": lambda: multiple_instance_loss(
                found.region_logits, _needed(batch, "labels", "mil"), self._weight(found)
            ),
            "orthogonality": lambda: orthogonality_loss(found.regions),
            "mmd": lambda: self._mmd(found, batch),
            "info_nce": lambda: self._contrast(found, batch, gather=gather),
        }
        parts = {name: ways[name]() for name in self.losses}
        total = sum((self.losses[name] * part for name, part in parts.items()), start=found.logits.new_zeros(()))
        return {"loss": total, **parts}

    def on_fit_start(self) -> None:
        """Take weights of positives from the training labels, where asked to."""
        if self.pos_weight is None:
            self.pos_weight = training_weights(getattr(self.trainer, "datamodule", None), len(self.label_names))
            if "pos_weight" in self._init_args:
                # a checkpoint is validated later without the training labels
                self._init_args["pos_weight"] = self.pos_weight
        super().on_fit_start()

    def _weight(self, found: VisualAlignment) -> Tensor:
        """Return the weight of each label's positives."""
        if self.pos_weight is None:
            cause = "`pos_weight='balanced'` is not known yet: it is taken from the training labels."
            raise ConfigError(cause, "Fit first, or pass numbers, e.g. of `positive_weights`.")
        return found.logits.new_tensor(self.pos_weight)

    def _mmd(
        self, found: VisualAlignment, batch: Mapping[str, Any], estimator: Literal["biased", "unbiased"] = "biased"
    ) -> Tensor:
        texts = _needed(batch, "condition_embeddings", "mmd")
        return imq_mmd(found.embeddings, texts, y_mask=batch.get("condition_mask"), estimator=estimator)

    def _contrast(self, found: VisualAlignment, batch: Mapping[str, Any], *, gather: bool) -> Tensor:
        # what texts say, where the data tell: the same findings in other words are no negatives
        texts = batch.get("text_key", batch.get("report"))
        keys = None if texts is None else text_keys(texts)
        return self.contrast(found.embedding, _needed(batch, "text_embedding", "info_nce"), keys, gather=gather)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the training loss."""
        found = self(batch)
        losses = self.compute_losses(found, batch)
        check_finite_values(losses["loss"], batch)
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, batch_size=len(found.logits))
        return losses["loss"]

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Record the batch's logits and log its losses."""
        found = self._record(batch, batch_idx)
        losses = self.compute_losses(found, batch, gather=False)
        if "mmd" in losses:
            losses["mmd_unbiased"] = self._mmd(found, batch, "unbiased")
        self.log_dict({f"val/{k}": v for k, v in losses.items()}, batch_size=len(found.logits), sync_dist=True)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Record the batch's logits."""
        self._record(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the label scores of the epoch."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the label scores of the epoch."""
        self._log_scores("test")

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return one record a sample with the probability of each label."""
        return probability_records(batch, self(batch).logits.sigmoid(), self.label_names, batch_idx)

    def _record(self, batch: Mapping[str, Any], batch_idx: int) -> VisualAlignment:
        found: VisualAlignment = self(batch)
        check_finite_values(found.logits, batch, "logits")
        ids = sample_ids(batch, len(found.logits), batch_idx)
        labels = _needed(batch, "labels", "label scores").float().cpu().tolist()
        rows = zip(ids, found.logits.float().tolist(), labels, strict=True)
        self._records.add([{"id": name, "logits": row, "labels": target} for name, row, target in rows])
        return found

    def _log_scores(self, stage: str) -> None:
        records = self._records.merge()
        if not records:
            return
        logits, labels = (torch.tensor([r[key] for r in records]) for key in ("logits", "labels"))
        values = {
            **classifier_scores(logits.sigmoid(), labels, self.label_names),
            **clinical_scores((logits > 0).float(), labels, self.label_names),
        }
        self.log_dict({f"{stage}/{k}": float(v) for k, v in values.items() if isinstance(v, int | float)})


def _needed(batch: Mapping[str, Any], key: str, what: str) -> Tensor:
    """Return a tensor of the batch, or say which loss needs it."""
    value: Tensor | None = batch.get(key)
    if value is None:
        cause = f"The batch holds no `{key}`, which {what} needs; it holds {sorted(batch)}."
        raise DatasetError(cause, "Wrap the data module in `TextTargetDataModule`, or set the loss's weight to 0.")
    return value
