"""Self-supervised pretraining of a slice encoder: LeJEPA on slab views, no text and, by default, no labels.

Paper: LeJEPA, https://arxiv.org/abs/2511.08544; the recipe is that of the encoder behind Ker-VLJEPA-3B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses.lejepa import LeJEPALoss
from ct_vlm.metrics.embedding_statistics import EmbeddingStatistics
from ct_vlm.modules.ssl_projector import SSLProjector
from ct_vlm.tasks.base import TrainingTask
from ct_vlm.tasks.checks import check_finite_values
from ct_vlm.tasks.optimizer import OptimizerConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.encoders import SliceEncoder

LEJEPA_OPTIMIZER = OptimizerConfig(
    "adamw", 3e-4, 0.04, schedule="cosine", warmup_fraction=0.1, eps=1e-6, final_factor=0.1
)
"""Settings of the published configuration: 3e-4 to 3e-5 by cosine, warm-up of 5,000 of 50,000 steps."""

_KINDS = ("global", "local")


class LeJEPALightningModule(TrainingTask):
    """Train a slice encoder so that views of a slab agree and their embeddings stay Gaussian.

    The encoder's class token of each view goes through the projector to the loss. What is kept is
    the class token: ``task.encoder`` is the encoder of the next stages.

    Collapse is watched where it would show: ``embedding/...`` of the class tokens and
    ``projection/...`` (effective rank, mean pairwise cosine, spread by dimension; see
    :class:`~ct_vlm.metrics.EmbeddingStatistics`), on the first global view of each slab, beside
    ``sigreg``, whose noise floor is 1.05.

    Args:
        encoder: Slice encoder with a class token that trains (``frozen=False``).
        projector: Projector; two hidden layers of 2048 and 124 outputs by default, as published.
        optimizer: Optimizer and schedule; :data:`LEJEPA_OPTIMIZER` by default.
        weight: Share of SIGReg in the loss.
        sigreg: Arguments of :class:`~ct_vlm.losses.SIGReg`.
        num_labels: Labels K of an auxiliary head that tells from the class token which labels a view
            shows; 0 for none. With it the encoder is no longer free of labels.
        aux_weight: Weight of its loss.
        aux_pos_weight: Weight of its positives.
        statistics_every: Training steps between statistics of the batch; validation has them always.
        init_from: Parts to fill from earlier checkpoints, see :meth:`TrainingTask.set_training`.

    **Shape:**
        - Batch: ``global_views (B, C, V, h, w)`` float, ``local_views`` likewise, and with ``num_labels``
          ``global_labels (B, V, K)``, ``local_labels``.

    Raises:
        ConfigError: If the encoder is frozen, has no class token, or another width than the projector.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import lejepa_vit
        >>> from ct_vlm.modules import SSLProjector
        >>> from ct_vlm.tasks import LeJEPALightningModule
        >>> task = LeJEPALightningModule(lejepa_vit("tiny"), SSLProjector(96, 64, 16), sigreg={"num_directions": 64})
        >>> batch = {"global_views": torch.rand(4, 1, 2, 32, 32), "local_views": torch.rand(4, 1, 3, 16, 16)}
        >>> sorted(task.losses(batch))
        ['invariance', 'loss', 'sigreg']

    References:
        LeJEPA, arXiv 2511.08544. Auxiliary head (weight .1, positives 15) and settings: configuration of the
        encoder behind Ker-VLJEPA-3B, which trained with 118 organ labels of TotalSegmentator: "no text"
        holds for it, "no labels" does not.
    """

    def __init__(
        self,
        encoder: SliceEncoder,
        projector: SSLProjector | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        weight: float = 0.02,
        sigreg: dict[str, Any] | None = None,
        num_labels: int = 0,
        aux_weight: float = 0.1,
        aux_pos_weight: float = 15.0,
        statistics_every: int = 50,
        init_from: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        dim = encoder.level_dims[-1]
        self.encoder = encoder
        self.projector = SSLProjector(dim) if projector is None else projector
        _check(encoder, self.projector)
        self.loss = LeJEPALoss(weight, sigreg=sigreg)
        self.aux_head = nn.Linear(dim, num_labels) if num_labels else None
        self.aux_weight, self.aux_pos_weight = aux_weight, aux_pos_weight
        self.statistics_every = statistics_every
        self.embedding_statistics = EmbeddingStatistics(dim)
        self.projection_statistics = EmbeddingStatistics(self.projector.out_dim)
        self.set_training(optimizer or LEJEPA_OPTIMIZER, init_from=init_from)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class token of each slice or view.

        Args:
            image: Windowed ``(B, C, D, H, W)``; D may count views.

        Shape:
            - Output: ``(B, D, dim)``.
        """
        prefix = self.encoder.encode(image)[1][-1]
        if prefix.shape[2] == 0:
            cause = f"The backbone {type(self.encoder.backbone.model).__name__} has no class token."
            raise ConfigError(cause, "Use a vision transformer with one, e.g. `lejepa_vit`.")
        return prefix[:, :, 0]

    def losses(self, batch: Mapping[str, Any], step: int = 0) -> dict[str, Tensor]:
        """Return the total loss and its terms.

        Args:
            batch: See above.
            step: Decides the directions of SIGReg.
        """
        return self._losses(self._embed(batch), batch, step)[0]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the training loss."""
        embeddings = self._embed(batch)
        losses, projections = self._losses(embeddings, batch, self.global_step)
        check_finite_values(losses["loss"], batch)
        size = len(batch["global_views"])
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=size)
        if batch_idx % self.statistics_every == 0:
            found = _of_batch({"embedding": embeddings["global"][0], "projection": projections[0]})
            self.log_dict({f"train/{name}": value for name, value in found.items()}, batch_size=size)
        return losses["loss"]

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Log the losses and add to the statistics."""
        embeddings = self._embed(batch)
        losses, projections = self._losses(embeddings, batch, batch_idx)
        size = len(batch["global_views"])
        self.log_dict({f"val/{name}": value for name, value in losses.items()}, batch_size=size, sync_dist=True)
        self.embedding_statistics.update(embeddings["global"][0])
        self.projection_statistics.update(projections[0])

    def on_validation_epoch_end(self) -> None:
        """Log the statistics of all validation slabs."""
        both = {"embedding": self.embedding_statistics, "projection": self.projection_statistics}
        for place, statistics in both.items():
            # sums of all ranks are in already
            self.log_dict({f"val/{place}/{name}": value.float() for name, value in statistics.compute().items()})
            statistics.reset()

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return the embeddings of a volume's slices and ids."""
        return {"embeddings": self(batch["image"]), "volume_id": batch.get("volume_id")}

    def _embed(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the class tokens of global and local views, ``(V, B, dim)`` each."""
        views = {kind: batch.get(f"{kind}_views") for kind in _KINDS}
        return {kind: self(view).transpose(0, 1) for kind, view in views.items() if view is not None and view.shape[2]}

    def _losses(
        self, embeddings: Mapping[str, Tensor], batch: Mapping[str, Any], step: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return total and terms, and the projections ``(V, B, D)``."""
        if "global" not in embeddings:
            cause = f"The batch has no `global_views`; its keys are {sorted(batch)}."
            raise ShapeError(cause, "Use `SlabDataModule`, or pass views as (B, C, V, h, w).")
        projections = self.projector(torch.cat(list(embeddings.values())))
        found = self.loss(projections, step, num_global=len(embeddings["global"]))
        losses = {"loss": found.loss, "invariance": found.invariance, "sigreg": found.sigreg}
        if self.aux_head is not None:
            losses["aux"] = torch.stack([self._aux(embeddings[kind], batch, kind) for kind in embeddings]).mean()
            losses["loss"] = losses["loss"] + self.aux_weight * losses["aux"]
        return losses, projections

    def _aux(self, embeddings: Tensor, batch: Mapping[str, Any], kind: str) -> Tensor:
        """Return the auxiliary loss of one kind of view."""
        head, labels = self.aux_head, batch.get(f"{kind}_labels")
        if head is None or labels is None or labels.shape[-1] != head.out_features:
            have = "none" if labels is None else f"{labels.shape[-1]}"
            cause = f"The auxiliary head needs {getattr(head, 'out_features', 0)} labels a view, but got {have}."
            raise ConfigError(cause, "Set `view_labels: true` and `labels_root`, and `num_labels` to its largest id.")
        logits = head(embeddings).float()
        weight = logits.new_tensor(self.aux_pos_weight)
        return F.binary_cross_entropy_with_logits(logits, labels.transpose(0, 1).float(), pos_weight=weight)


def _of_batch(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the statistics of this rank's batch."""
    found: dict[str, Tensor] = {}
    for place, embeddings in values.items():
        statistics = EmbeddingStatistics(embeddings.shape[-1], sync_on_compute=False).to(embeddings.device)
        statistics.update(embeddings)
        found.update({f"{place}/{name}": value.float() for name, value in statistics.compute().items()})
    return found


def _check(encoder: SliceEncoder, projector: SSLProjector) -> None:
    """Raise if the two cannot train together."""
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        cause = "The encoder is frozen: nothing would train but the projector."
        raise ConfigError(cause, "Build it with `frozen=False`.")
    if projector.in_dim != encoder.level_dims[-1]:
        cause = f"The projector reads {projector.in_dim} channels, but the encoder gives {encoder.level_dims[-1]}."
        raise ConfigError(cause, f"Use `SSLProjector({encoder.level_dims[-1]})`.")
