"""Stage 1 of U-VLM: segmentation training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torchmetrics.segmentation import DiceScore

from ct_vlm.losses import DeepSupervisionDiceCELoss, balanced_presence_loss, cell_presence
from ct_vlm.models import SegmentationModel
from ct_vlm.models.inputs import model_image
from ct_vlm.modules import PresenceHead, SlicePresenceHead
from ct_vlm.tasks.base import TrainingTask
from ct_vlm.tasks.checks import check_finite_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ct_vlm.encoders import Encoder
    from ct_vlm.features import Features
    from ct_vlm.modules import PatchSegmentationDecoder, UNetDecoder
    from ct_vlm.tasks.optimizer import OptimizerConfig


class SegmentationLightningModule(TrainingTask, SegmentationModel):
    """Train encoder and U-Net decoder on label maps.

    Args:
        encoder: Encoder to pretrain.
        decoder: U-Net decoder, or a patch-wise one for a slice encoder.
        optimizer: Optimizer and schedule.
        label_pooling: How label maps reach coarser levels, see
            :class:`~ct_vlm.losses.DeepSupervisionDiceCELoss`.
        presence_levels: Encoder levels that are supervised with the classes present in each cell
            (ours; empty as in the paper). It teaches the levels that the later stages read to
            carry findings smaller than a cell.
        presence_weight: Weight of that loss.
        slice_grid: Rows and columns of the parts of a slice in which the mean of its deepest tokens
            has to tell what they hold (ours, for slice encoders whose tokens are averaged later).
        dice_weight: Weight of the Dice + cross-entropy loss.
        roi_size: Window of sliding-window validation; the whole volume by default.
        init_from: Parts to fill from earlier checkpoints, see :meth:`TrainingTask.set_training`.

    Shape:
        - Batch: ``image (B, C, D, H, W)``, ``segmentation (B, D, H, W)``.

    References:
        U-VLM, arXiv 2603.00479. The presence loss is ours.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: UNetDecoder | PatchSegmentationDecoder,
        optimizer: OptimizerConfig | None = None,
        *,
        label_pooling: Literal["nearest", "max"] = "nearest",
        presence_levels: Sequence[int] = (),
        presence_weight: float = 1.0,
        slice_grid: tuple[int, int] | None = None,
        dice_weight: float = 1.0,
        roi_size: tuple[int, int, int] | None = None,
        init_from: dict[str, str] | None = None,
    ) -> None:
        SegmentationModel.__init__(self, encoder, decoder)
        self.loss = DeepSupervisionDiceCELoss(label_pooling)
        self.presence: PresenceHead | None = None
        if presence_levels:
            self.presence = PresenceHead(encoder.level_dims, presence_levels, decoder.num_classes - 1)
        self.slice_presence: SlicePresenceHead | None = None
        if slice_grid is not None:
            self.slice_presence = SlicePresenceHead(
                encoder.level_dims, decoder.num_classes - 1, grid=(slice_grid[0], slice_grid[1])
            )
        self.presence_weight, self.dice_weight = presence_weight, dice_weight
        self.roi_size = None if roi_size is None else (roi_size[0], roi_size[1], roi_size[2])
        self.val_dice = DiceScore(decoder.num_classes, include_background=False, average="macro", input_format="index")
        self.set_training(optimizer, init_from=init_from)

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the total loss and its parts."""
        features: Features = self.encoder(model_image(batch["image"], self.encoder))
        parts = {}
        if self.dice_weight > 0:
            parts["dice_ce"] = self.dice_weight * self.loss(self.decoder(features), batch["segmentation"])
        if self.presence is not None:
            for level, logits in zip(self.presence.levels, self.presence(features), strict=True):
                grid = features.grids[level]
                target = cell_presence(batch["segmentation"], grid, self.decoder.num_classes)
                loss = balanced_presence_loss(logits.transpose(1, 2).unflatten(2, grid), target)
                parts[f"presence_{level}"] = self.presence_weight * loss
        if self.slice_presence is not None:
            logits = self.slice_presence(features)
            target = cell_presence(batch["segmentation"], logits.shape[2:], self.decoder.num_classes)
            parts["slice_presence"] = self.presence_weight * balanced_presence_loss(logits, target)
        return {"loss": sum(parts.values(), start=features.levels[-1].new_zeros(())), **parts}

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the training loss."""
        losses = self.losses(batch)
        check_finite_values(losses["loss"], batch)
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, batch_size=len(batch["image"]))
        return losses["loss"]

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Update the Dice score."""
        self.val_dice.update(self.segment(batch["image"], self.roi_size), batch["segmentation"].long())
        self.log("val/dice", self.val_dice, on_epoch=True, batch_size=len(batch["image"]))

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Update the Dice score."""
        self.val_dice.update(self.segment(batch["image"], self.roi_size), batch["segmentation"].long())
        self.log("test/dice", self.val_dice, on_epoch=True, batch_size=len(batch["image"]))

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return label maps and ids."""
        return {"segmentation": self.segment(batch["image"], self.roi_size), "volume_id": batch.get("volume_id")}
