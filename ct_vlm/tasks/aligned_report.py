"""Phases 3 and 4 of Ker-VLJEPA: writing texts while the visual side stays in charge."""

from __future__ import annotations

import functools
import itertools
import logging
import re
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.losses import AnchorPenalty, cosine_prediction_loss, fisher_diagonal, focal_loss, masked_bce
from ct_vlm.losses.weights import check_weights
from ct_vlm.models import warm_bridge
from ct_vlm.tasks.base import load_task
from ct_vlm.tasks.checks import check_finite_values
from ct_vlm.tasks.hidden_states import last_hidden_states
from ct_vlm.tasks.report import ReportLightningModule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ct_vlm.decoders import Decoder
    from ct_vlm.encoders import Encoder
    from ct_vlm.modules import Connector, JEPAHead
    from ct_vlm.tasks.optimizer import OptimizerConfig
    from ct_vlm.text.prompts import ReportPrompt
    from ct_vlm.transforms import CTPreset

LOSSES = ("lm", "focal", "jepa", "language_bce", "language_focal", "anchor")
PHASE_3 = {"lm": 1.0, "focal": 1.0, "jepa": 0.5, "language_bce": 3.0}
"""Loss weights of phase 3. The paper gives 3.0 for its LLM classification; focal and JEPA are inferred."""
PHASE_4 = {"lm": 1.0, "language_focal": 1.0, "anchor": 100.0}
"""Loss weights of phase 4. The paper has 100 (equation 13) or 500 (figure 2) for the anchor; focal is inferred."""
READERS = {
    "token_classifier": ("focal",),
    "language_classifier": ("language_bce", "language_focal"),
    "jepa": ("jepa",),
    "decoder": ("lm", "language_bce", "language_focal"),
}
"""Parts to the losses that read them; ``anchor`` reads what its pattern names."""
_ANCHOR = "ct_vlm_anchor"
_log = logging.getLogger(__name__)


class AlignedReportLightningModule(ReportLightningModule):
    """Train a report model with losses that keep it reading its visual tokens.

    =============== ==================================================================== ==================
    loss            what                                                                 needs in the batch
    =============== ==================================================================== ==================
    lm              next token of the text                                               ``report``
    focal           labels from the mean visual token                                    ``labels``
    jepa            the tokens predict the text's whitened embedding                     ``text_embedding``
    language_bce    labels from the LM's last hidden states at the visual positions      ``labels``
    language_focal  the same with focal loss, which trains LoRA alone in phase 4         ``labels``
    anchor          LoRA stays near where the phase began                                nothing
    =============== ==================================================================== ==================

    Args:
        encoder: Slice encoder.
        connectors: Zone tokens in the width of the language model.
        decoder: Language model with LoRA and cross-attention.
        jepa: Predicts whitened text embeddings; needed for ``jepa``.
        prompt: Instruction that opens every text.
        preset: Preprocessing of volumes.
        optimizer: Optimizer and schedule.
        losses: Weight of each loss; phase 3's unless given.
        num_labels: Labels of both classifiers.
        anchored: Pattern of the parameters that ``anchor`` holds.
        fisher_samples: Training samples that the Fisher matrix of ``anchor`` is computed from as the
            phase begins; 0 leaves every weight as important as any other, as in the paper.
        frozen: Parts that do not train. Phase 3 freezes encoder and zones; phase 4 also
            ``connectors`` and ``decoder.cross_attention``.
        generation: Options of the decoder's ``generate``.
        init_from: Parts to fill from earlier checkpoints, see :meth:`TrainingTask.set_training`.
        bridge_from: Checkpoint of a converged run, whose language side is then moved in by
            :func:`ct_vlm.models.warm_bridge`; no part of the saved config.
        max_length: Longest training text in tokens.

    Shape:
        - Batch: ``image (B, C, D, H, W)`` or ``features``; ``report`` (B strings); ``labels (B, K)``,
          NaN where unknown; ``text_embedding (B, F)``.

    Raises:
        ConfigError: If a loss is unknown or lacks its part.
        DatasetError: If a batch lacks what a loss needs, or a loss is not finite.

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, phases 3 and 4. Inferred: that ``focal`` reads the mean visual token
        in phase 3 and the language model's states in phase 4, where nothing else trains; that its states
        are pooled over visual positions; one linear map for each classifier.
    """

    def __init__(
        self,
        encoder: Encoder,
        connectors: Sequence[Connector],
        decoder: Decoder,
        jepa: JEPAHead | None = None,
        prompt: ReportPrompt | str | None = None,
        preset: CTPreset | str | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        losses: dict[str, float] | None = None,
        num_labels: int = 18,
        anchored: str = r"\.lora_",
        fisher_samples: int = 0,
        frozen: Sequence[str] = ("encoder",),
        generation: dict[str, Any] | None = None,
        init_from: dict[str, str] | None = None,
        bridge_from: str | None = None,
        max_length: int | None = None,
    ) -> None:
        options: dict[str, Any] = {"generation": generation, "max_length": max_length}
        ReportLightningModule.__init__(
            self, encoder, connectors, decoder, prompt, preset, optimizer, frozen=(), **options
        )
        self.jepa = jepa
        self.token_classifier = nn.Linear(decoder.embed_dim, num_labels)
        self.language_classifier = nn.Linear(decoder.embed_dim, num_labels)
        self.losses = check_weights(PHASE_3 if losses is None else losses, LOSSES)
        if "jepa" in self.losses and jepa is None:
            cause = "The loss `jepa` needs a head, and there is none."
            raise ConfigError(cause, "Pass `jepa=JEPAHead(...)`, or leave the loss out.")
        self.anchored, self.fisher_samples = anchored, fisher_samples
        self._anchor: AnchorPenalty | None = None
        # parts are filled and frozen once all of them exist
        self.set_training(optimizer, frozen, init_from)
        self.set_readers(
            self.losses, READERS, lambda name: "anchor" in self.losses and re.search(anchored, name) is not None
        )
        if bridge_from is not None:
            _log.info("bridge from %s: %s", bridge_from, warm_bridge(load_task(bridge_from), self))
        if "bridge_from" in self._init_args:
            self._init_args["bridge_from"] = None

    def compute_losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return each loss before its weight, and their weighted sum as ``loss``."""
        reports = batch.get("report")
        if reports is None:
            cause = f"The batch holds no `report`; it holds {sorted(batch)}."
            raise DatasetError(cause, "Use a data set with report text.")
        context = self.visual_context(batch)
        if context.tokens is None:
            cause = "The connectors give no visual tokens."
            raise ConfigError(cause, "Use e.g. `ZonedVisualTokens`.")
        prompts, visual = self.prompts(batch, context, len(reports))
        encoded = self._encode(prompts, list(reports), visual).to(context.tokens.device)
        with last_hidden_states(self.decoder) as hidden:
            lm = self.decoder(**encoded.inputs(), visual=visual).loss
        tokens = context.tokens
        ways = {
            "lm": lambda: lm,
            "focal": lambda: focal_loss(_classify(self.token_classifier, tokens.mean(1)), _labels(batch)),
            "jepa": lambda: self._predict_text(tokens, batch),
            "language_bce": lambda: masked_bce(
                _classify(self.language_classifier, hidden.visual_mean()), _labels(batch)
            ),
            "language_focal": lambda: focal_loss(
                _classify(self.language_classifier, hidden.visual_mean()), _labels(batch)
            ),
            "anchor": lambda: self.anchor_penalty()(self.anchored_parameters()),
        }
        parts = {name: ways[name]() for name in self.losses}
        total = sum((self.losses[name] * part for name, part in parts.items()), start=lm.new_zeros(()))
        return {"loss": total, **parts}

    def _predict_text(self, tokens: Tensor, batch: Mapping[str, Any]) -> Tensor:
        target = batch.get("text_embedding")
        if target is None or self.jepa is None:
            cause = f"The batch holds no `text_embedding`, which jepa needs; it holds {sorted(batch)}."
            raise DatasetError(
                cause, "Wrap the data module in `TextTargetDataModule`, or set the weight of `jepa` to 0."
            )
        return cosine_prediction_loss(self.jepa(tokens), target)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the training loss."""
        losses = self.compute_losses(batch)
        check_finite_values(losses["loss"], batch)
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, batch_size=len(batch["report"]))
        return losses["loss"]

    def anchored_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that ``anchor`` holds, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad and re.search(self.anchored, name)}

    def anchor_penalty(self) -> AnchorPenalty:
        """Return the penalty of ``anchor``; its anchors are the weights at the first call."""
        if self._anchor is None:
            self._anchor = AnchorPenalty(self.anchored_parameters())
        return self._anchor

    def on_train_start(self) -> None:
        """Take the anchors as the phase begins; a resumed run has them from its checkpoint."""
        super().on_train_start()
        if "anchor" not in self.losses or self._anchor is not None:
            return
        held = self.anchored_parameters()
        fisher = None
        if self.fisher_samples:
            batches = itertools.islice(self._single_samples(), self.fisher_samples)
            training = self.training
            self.eval()
            fisher = fisher_diagonal(held, (functools.partial(self._likelihood, one) for one in batches))
            self.train(training)
        self._anchor = AnchorPenalty(held, fisher)

    def _likelihood(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the negative log-likelihood of a batch's texts: a sum over their tokens, not a mean."""
        output = self(batch)
        return output.loss * output.num_targets

    def _single_samples(self) -> Iterator[dict[str, Any]]:
        """Return training samples as batches of one, in the data set's order."""
        loader: Any = self.trainer.train_dataloader
        for index in range(len(loader.dataset)):
            batch = loader.collate_fn([loader.dataset[index]])
            batch = self.trainer.lightning_module._apply_batch_transfer_handler(batch)
            yield batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store config and anchors."""
        super().on_save_checkpoint(checkpoint)
        if self._anchor is not None:
            checkpoint[_ANCHOR] = self._anchor.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the anchors of a run that goes on."""
        super().on_load_checkpoint(checkpoint)
        if _ANCHOR in checkpoint:
            self._anchor = AnchorPenalty.from_state_dict(checkpoint[_ANCHOR])


def _classify(classifier: nn.Linear, states: Tensor) -> Tensor:
    return classifier(states.to(classifier.weight.dtype))


def _labels(batch: Mapping[str, Any]) -> Tensor:
    labels: Tensor | None = batch.get("labels")
    if labels is None:
        cause = f"The batch holds no `labels`; it holds {sorted(batch)}."
        raise DatasetError(cause, "Use a data set with labels, or leave out the losses on labels.")
    return labels
