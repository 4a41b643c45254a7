"""Preference training: a report model learns to tell a true text from one that is nearly true."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn
from torchmetrics import MeanMetric

from ct_vlm.cache import model_identity
from ct_vlm.decoders.adapters import adapter_layers, adapters_are_neutral, adapters_off
from ct_vlm.decoders.generation import evaluating
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.losses.dpo import Length, check_dpo_settings, dpo_loss
from ct_vlm.tasks.checks import check_finite_values
from ct_vlm.tasks.reference import StartWeights
from ct_vlm.tasks.reference_store import ReferenceStore, digest
from ct_vlm.tasks.report import ReportLightningModule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from ct_vlm.decoders import Decoder
    from ct_vlm.decoders.branches import BranchLogProbs
    from ct_vlm.encoders import Encoder
    from ct_vlm.features import VisualContext
    from ct_vlm.losses.dpo import DPOResult
    from ct_vlm.modules import Connector
    from ct_vlm.tasks.optimizer import OptimizerConfig
    from ct_vlm.text.prompts import ReportPrompt
    from ct_vlm.transforms import CTPreset

Reference = Literal["weights", "adapters_off", "precomputed"]
_STATE = "ct_vlm_dpo_reference"
_LOGGED = {"accuracy": "accuracies", "margin": "margins", "kl": "kl"}


class DPOLightningModule(ReportLightningModule):
    """Train a report model on pairs of a better and a worse text (DPO).

    Better and worse text are read behind one pass over prompt and visual tokens, and there is never a
    second model in memory. What the model said before training, the reference, comes from

    =============== =======================================================================================
    reference       what
    =============== =======================================================================================
    weights         a copy of the weights that train, put in their place for a pass without gradients
    adapters_off    the model without its adapters; they have to be fresh, as an earlier stage's are part of
                    the reference
    precomputed     a folder that is filled before the first step and serves later runs too; no second
                    pass, and the way to train all weights
    =============== =======================================================================================

    Logged: loss, share of pairs whose better text has the higher reward (``accuracy``, ½ at the start),
    reward ``margin``, ``kl`` (an estimate), in training also rewards and log-probabilities of both texts.

    Args:
        encoder: Volume to features.
        connectors: Features to visual context.
        decoder: Visual context to text.
        prompt: Instruction for batches without prompts of their own.
        preset: Preprocessing of volumes.
        optimizer: Optimizer and schedule.
        beta: How much the model is held to the reference.
        label_smoothing: Probability that a pair is the wrong way round.
        length: What log-probabilities are divided by, see :func:`ct_vlm.losses.dpo_loss`.
        ends: Whether texts are whole answers. False where they are beginnings of answers, like
            AbSteering's lists of abnormalities, whose report is still to come: whether the text ends
            is then no part of its probability.
        reference: Where the reference's log-probabilities come from.
        reference_dir: Folder of ``"precomputed"``.
        sft_weight: Weight of the better text's own loss a token beside the preference; none unless given.
        dropout: Whether dropout acts on the model that trains.
        shared_prefix: Whether both texts share one pass over the prompt; False is for comparison.
        frozen: Parts that do not train.
        generation: Options of the decoder's ``generate``.
        init_from: Parts to fill from the checkpoint of stage 1, see :meth:`TrainingTask.set_training`.
        max_length: Longest text in tokens.

    Shape:
        - Batch of :class:`ct_vlm.datamodules.PreferenceDataModule`: ``image (B, C, D, H, W)`` or
          ``features``; ``chosen``, ``rejected`` (B strings); optionally ``prompt``; ``pair_key`` for
          ``"precomputed"``.

    Raises:
        ConfigError: If settings are out of range, or the reference does not fit what trains.
        DatasetError: If a batch holds no pairs, or the loss is not finite.

    References:
        AbSteering, https://arxiv.org/abs/2603.12469 (stage 2); DPO, https://arxiv.org/abs/2305.18290.
        Inferred: β, learning rate, length handling and everything about the reference but that it is
        the model of stage 1; ``sft_weight`` is the term of RPO, https://arxiv.org/abs/2404.19733, which the paper
        does not have.
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
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        length: Length = "sum",
        ends: bool = True,
        reference: Reference = "weights",
        reference_dir: str | None = None,
        sft_weight: float = 0.0,
        dropout: bool = False,
        shared_prefix: bool = True,
        frozen: Sequence[str] = ("encoder", "connectors"),
        generation: dict[str, Any] | None = None,
        init_from: dict[str, str] | None = None,
        max_length: int | None = None,
    ) -> None:
        check_dpo_settings(beta, label_smoothing, length)
        _check_reference(reference, reference_dir)
        options: dict[str, Any] = {"generation": generation, "max_length": max_length}
        ReportLightningModule.__init__(
            self, encoder, connectors, decoder, prompt, preset, optimizer, frozen=(), **options
        )
        self.beta, self.label_smoothing, self.length = beta, label_smoothing, length
        self.ends, self.sft_weight, self.dropout = ends, sft_weight, dropout
        self.reference, self.reference_dir, self.shared_prefix = reference, reference_dir, shared_prefix
        self.val_means = nn.ModuleDict({name: MeanMetric(nan_strategy="error") for name in _LOGGED})
        self._start: StartWeights | None = None
        self._store: ReferenceStore | None = None
        self._key: str | None = None
        self.set_training(optimizer, frozen, init_from)

    def log_probs(self, batch: Mapping[str, Any], context: VisualContext | None = None) -> BranchLogProbs:
        """Return the log-probabilities of better and worse text, ``(B, 2)``.

        Args:
            batch: Pairs beside images or features.
            context: What the decoder reads, if it is known already.

        Raises:
            DatasetError: If the batch holds no pairs.
        """
        if batch.get("chosen") is None or batch.get("rejected") is None:
            cause = f"The batch holds no `chosen` and `rejected`; it holds {sorted(batch)}."
            raise DatasetError(cause, "Wrap the data module in `PreferenceDataModule`.")
        pairs = list(zip(batch["chosen"], batch["rejected"], strict=True))
        context = self.visual_context(batch) if context is None else context
        prompts, visual = self.prompts(batch, context, len(pairs))
        limit = self.text_limit(visual)
        found = self.decoder.branch_log_probs(
            prompts, pairs, visual, max_length=limit, ends=self.ends, shared=self.shared_prefix
        )
        self.count_cut(found.num_cut, limit)
        return found

    @torch.no_grad()
    def reference_log_probs(self, batch: Mapping[str, Any], context: VisualContext | None = None) -> Tensor:
        """Return the reference's log-probabilities of better and worse text, ``(B, 2)``.

        Args:
            batch: Pairs beside images or features.
            context: What the decoder reads, where the reference reads the same.

        Raises:
            ConfigError: If no training has begun and no checkpoint was loaded that would hold a reference.
        """
        if not self.knows_reference:
            cause = "The model has no reference yet: training did not begin, and no checkpoint brought one."
            raise ConfigError(cause, "Pass the checkpoint as `ckpt_path` of the trainer, or call `begin`.")
        if self._store is not None:
            return torch.tensor(self._store.get(batch["pair_key"]), device=next(self.parameters()).device)
        with evaluating(self), self._as_reference():
            return self.log_probs(batch, context).log_probs

    def compare(self, batch: Mapping[str, Any]) -> tuple[BranchLogProbs, DPOResult]:
        """Return the model's log-probabilities of a batch of pairs, and loss and rewards of these.

        Args:
            batch: Pairs beside images or features.
        """
        context = self.visual_context(batch)
        shared = None if self._trains_vision() else context
        reference = self.reference_log_probs(batch, shared)
        policy = self.log_probs(batch, context)
        settings: dict[str, Any] = {"label_smoothing": self.label_smoothing, "num_tokens": policy.num_tokens}
        reference = reference.to(policy.log_probs)
        return policy, dpo_loss(policy.log_probs, reference, beta=self.beta, length=self.length, **settings)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch of pairs."""
        policy, result = self.compare(batch)
        loss, values = result.loss, _means(result, policy)
        if self.sft_weight:
            own = -(policy.log_probs[:, 0] / policy.num_tokens[:, 0].clamp(min=1)).mean()
            loss, values["sft"] = loss + self.sft_weight * own, own.detach()
        check_finite_values(loss, batch)
        size = len(batch["chosen"])
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=size)
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Update loss, accuracy, margin and divergence of held-out pairs."""
        policy, result = self.compare(batch)
        size = len(policy.log_probs)
        self.val_loss.update(result.loss, size)
        self.log("val/loss", self.val_loss, on_epoch=True, prog_bar=True, batch_size=size)
        for name, field in _LOGGED.items():
            mean: Any = self.val_means[name]
            mean.update(getattr(result, field).mean(), size)
            self.log(f"val/{name}", mean, on_epoch=True, prog_bar=name == "accuracy", batch_size=size)

    @property
    def knows_reference(self) -> bool:
        """Whether the reference is known: training has begun, or a checkpoint of it was loaded."""
        if self.reference == "adapters_off":
            return bool(adapter_layers(self.decoder))
        return self._start is not None or self._store is not None

    def begin(self) -> None:
        """Take the model as it is now for the reference, unless a checkpoint has brought another."""
        if self.reference == "adapters_off":
            _check_adapters(self, fresh=self._key is None)
            self._key = "begun"
        elif self.reference == "weights" and self._start is None:
            self._start = StartWeights(self)
        elif self.reference == "precomputed":
            self._fill_store()

    def on_fit_start(self) -> None:
        """Check data and model, and take the reference."""
        super().on_fit_start()
        self.begin()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store config and reference."""
        super().on_save_checkpoint(checkpoint)
        start = {} if self._start is None else self._start.state_dict()
        checkpoint[_STATE] = {"key": self._key, "weights": start}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the reference of a run that goes on."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint.get(_STATE)
        if state is None:
            return
        self._key = state["key"]
        if self.reference == "weights" and state["weights"]:
            self._start = StartWeights(self, state["weights"])
        if self.reference == "precomputed" and self._key:
            self._store = ReferenceStore(str(self.reference_dir), self._key)

    def _freeze_modes(self) -> None:
        """Keep frozen parts in eval mode, and dropout out of the others."""
        super()._freeze_modes()
        # a reference with other dropout than the policy would give other log-probabilities at the start
        if not getattr(self, "dropout", True):
            for part in (self.encoder, self.connectors, self.decoder):
                for module in part.modules():
                    # layers recompute their activations in training mode only
                    module.training = module.training and getattr(module, "gradient_checkpointing", False)

    @contextmanager
    def _as_reference(self) -> Iterator[None]:
        """Be the reference for a while."""
        way = adapters_off(self.decoder) if self._start is None else self._start.in_place(self)
        with way:
            yield

    def _trains_vision(self) -> bool:
        """Tell whether the visual context of the policy is another than the reference's."""
        parts = (self.encoder, self.connectors)
        return self.reference == "weights" and any(p.requires_grad for part in parts for p in part.parameters())

    def _fill_store(self) -> None:
        """Compute the reference's log-probabilities of every pair that has none on disk."""
        data: Any = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "missing_loaders"):
            cause = f"`reference='precomputed'` needs to know all pairs, but the data is {type(data).__name__}."
            raise ConfigError(cause, "Use a `PreferenceDataModule`, or reference='weights'.")
        resumed = self._key is not None
        self._key = self._key or self._identity()
        self._store = ReferenceStore(str(self.reference_dir), self._key)
        if resumed:
            return
        # every process starts from the same files, and ends with those of all
        self.trainer.strategy.barrier()
        with evaluating(self), torch.no_grad(), self.trainer.precision_plugin.forward_context():
            for loader in data.missing_loaders(self._store):
                for batch in self._tracked(loader):
                    moved = self._apply_batch_transfer_handler(batch)
                    found = self.log_probs(moved).log_probs.double().tolist()
                    self._store.add({key: (row[0], row[1]) for key, row in zip(moved["pair_key"], found, strict=True)})
        self._store.flush()
        self.trainer.strategy.barrier()
        self._store.read()

    def _tracked(self, loader: Any) -> Any:
        """Show a bar over the batches where the trainer shows one."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        shown = self.trainer.is_global_zero and self.trainer.progress_bar_callback is not None and console.is_terminal
        return track(loader, "Reference", total=len(loader), console=console, disable=not shown)

    def _identity(self) -> str:
        """Return a digest of everything that decides what the reference says of a pair."""
        parts = [self.encoder, *self.connectors, self.decoder]
        preset = None if self.preset is None else self.preset.to_config()
        return digest(
            [model_identity(part) for part in parts],
            self.prompt.template,
            preset,
            self.max_length,
            self.ends,
            str(self.trainer.precision),
        )


def _means(result: DPOResult, policy: BranchLogProbs) -> dict[str, Tensor]:
    """Return what is logged of a batch."""
    chosen, rejected = policy.log_probs.detach().mean(0)
    return {
        **{name: getattr(result, field).mean() for name, field in _LOGGED.items()},
        "chosen_reward": result.chosen_rewards.mean(),
        "rejected_reward": result.rejected_rewards.mean(),
        "chosen_log_prob": chosen,
        "rejected_log_prob": rejected,
    }


def _check_reference(reference: str, folder: str | None) -> None:
    """Raise unless the settings of the reference fit together."""
    if reference not in get_args(Reference):
        cause = f"Expected `reference` to be one of {', '.join(get_args(Reference))}, but got {reference!r}."
        raise ConfigError(cause, "`weights` works for every model.")
    if (reference == "precomputed") != (folder is not None):
        cause = f"`reference={reference!r}` and `reference_dir={folder!r}` do not fit together."
        raise ConfigError(cause, "Give `precomputed` a folder, and the others none.")


def _check_adapters(model: DPOLightningModule, *, fresh: bool) -> None:
    """Raise unless a model without its adapters is what it was before training."""
    own = {id(p) for layer in adapter_layers(model.decoder) for p in layer.parameters()}
    others = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in own]
    if others or not own:
        cause = f"Adapters switched off are no reference where other weights train: {others[:3] or 'no adapters'}."
        raise ConfigError(cause, "Freeze them, or use reference='weights'.")
    if fresh and not adapters_are_neutral(model.decoder):
        cause = "The adapters hold what an earlier stage has learned, which is part of the reference."
        raise ConfigError(cause, "Use reference='weights', which copies them.")
