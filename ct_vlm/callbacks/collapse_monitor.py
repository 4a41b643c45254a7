"""Writing reports while a model trains, with the right volumes and with wrong ones."""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback

from ct_vlm.callbacks.collapse import CollapsePoint, CollapseRule
from ct_vlm.callbacks.padding import pad_to_longest
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.files import write_json
from ct_vlm.metrics import other_patient_permutation, visual_reliance
from ct_vlm.metrics.reliance import ClinicalScorer
from ct_vlm.metrics.reliance_arms import batch_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import LightningModule, Trainer

_log = logging.getLogger(__name__)
_MAIN = "other_patient"


class CollapseMonitor(Callback):
    """Log generation F1 and visual reliance beside the loss, and say when a model stops reading volumes.

    Validation loss cannot show posterior collapse: most words of a report are the same for every
    patient, and a model that ignores the volume predicts them well. So reports are written for some
    validation samples, with their own volumes and with those of other patients.

    Logged are ``val/gen_f1`` (macro), ``val/gen_micro_f1`` and, for each further arm, ``val/gap_<arm>``
    (F1 lost) and ``val/reliance_<arm>`` (its share). In a distributed run they are means over processes,
    each of which looks at its own samples; so are history, warnings and the decision to stop.

    Args:
        arms: Arms of :func:`ct_vlm.metrics.visual_reliance` beside ``real``; ``other_patient`` is always run,
            unless one patient has more than half of the samples.
        every_n_epochs: Epochs from one look to the next. The first validation is looked at whatever its epoch,
            so that ``ModelCheckpoint(monitor="val/gen_f1")`` finds a value from then on.
        max_batches: Validation batches to write for; None takes all.
        rule: When a run counts as collapsed.
        stop: Whether training stops then.
        seeds: Seeds of the arms that chance decides.
        loss: Name under which the task logs its validation loss.
        generation: Options of ``generate_batch``.
        history_file: JSON file with every look, rewritten each time.
        labeler: Finds labels in reports; the rule labeler of CT-RATE's labels unless given.

    Raises:
        ConfigError: If a number is out of range, the task writes no reports, or logs no such loss.

    Example:
        >>> from ct_vlm.callbacks import CollapseMonitor
        >>> CollapseMonitor(arms=["zeroed"], max_batches=4).arms
        ('other_patient', 'zeroed')

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, diagnoses collapse in this way; the callback is ours.
    """

    def __init__(
        self,
        arms: Sequence[str] = (),
        *,
        every_n_epochs: int = 1,
        max_batches: int | None = 8,
        rule: CollapseRule | None = None,
        stop: bool = False,
        seeds: Sequence[int] = (0,),
        loss: str = "val/loss",
        generation: dict[str, Any] | None = None,
        history_file: str | Path | None = None,
        labeler: Any = None,
    ) -> None:
        if every_n_epochs < 1 or (max_batches is not None and max_batches < 1):
            cause = f"Expected whole numbers from 1 up, but got every_n_epochs={every_n_epochs}, {max_batches=}."
            raise ConfigError(cause, "Use max_batches=None for all batches.")
        self.arms = tuple(dict.fromkeys((_MAIN, *arms)))
        self.every_n_epochs, self.max_batches = every_n_epochs, max_batches
        self.rule, self.stop, self.seeds = rule or CollapseRule(), stop, tuple(seeds)
        self.loss, self.generation = loss, dict(generation or {})
        self.history_file = None if history_file is None else Path(history_file)
        self.labeler = labeler
        self.history: list[CollapsePoint] = []
        self.last: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the task writes reports."""
        if not hasattr(pl_module, "generate_batch"):
            cause = f"`{type(pl_module).__name__}` writes no reports."
            raise ConfigError(cause, "Use `CollapseMonitor` with report tasks.")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give a run that goes on the scores of its last look, which other callbacks monitor."""
        kept = {f"val/{name}": torch.tensor(value, device=pl_module.device) for name, value in self.last.items()}
        trainer.callback_metrics.update(kept)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, score, log and judge."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if (trainer.current_epoch + 1) % self.every_n_epochs and "val/gen_f1" in trainer.callback_metrics:
            return
        logged = trainer.callback_metrics.get(self.loss)
        if logged is None:
            cause = f"Validation logs no `{self.loss}`, but {sorted(trainer.callback_metrics)}."
            raise ConfigError(cause, "Name the loss that the task logs, in `loss`.")
        # every process judges by the same numbers, or some would stop and the others wait for them
        scores = _mean_over_processes(trainer, {"loss": float(logged), **self._scores(trainer, pl_module)})
        loss = scores.pop("loss")
        pl_module.log_dict({f"val/{name}": value for name, value in scores.items()}, sync_dist=True)
        self.last = scores
        point = CollapsePoint(trainer.current_epoch, scores["gen_f1"], loss, scores.get(f"gap_{_MAIN}"))
        self.history.append(point)
        findings = self.rule.findings(self.history)
        for finding in findings if trainer.is_global_zero else []:
            _log.warning("Epoch %d: %s.", trainer.current_epoch, finding)
        trainer.should_stop = trainer.should_stop or (self.stop and bool(findings))
        if self.history_file is not None and trainer.is_global_zero:
            self._write()

    def _scores(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        loaders: Any = trainer.val_dataloaders
        loader = loaders[0] if isinstance(loaders, list) else loaders
        kept = itertools.islice(loader, self.max_batches)
        batches = pad_to_longest([pl_module._apply_batch_transfer_handler(batch) for batch in kept])
        arms = self._possible_arms(trainer, batches)
        # intervals are not used here, and could not be had over one patient
        alone = None if _MAIN in arms else list(range(sum(map(batch_size, batches))))
        with torch.no_grad():
            found = visual_reliance(
                pl_module,
                batches,
                arms=arms,
                patients=alone,
                scorer=ClinicalScorer(self.labeler),
                seeds=self.seeds,
                scores=("macro_f1", "micro_f1"),
                generation=self.generation,
                n_resamples=2,
                progress=False,
            )
        real = found.arms["real"]
        scores = {"gen_f1": real["macro_f1"].value, "gen_micro_f1": real["micro_f1"].value}
        for arm in arms:
            left = found.arms[arm]["macro_f1"].value
            scores[f"gap_{arm}"] = scores["gen_f1"] - left
            scores[f"reliance_{arm}"] = 1 - left / scores["gen_f1"] if scores["gen_f1"] > 0 else 0.0
        # a label that no sample has gives no F1, and no number that a logger could hold
        return {name: 0.0 if math.isnan(value) else float(value) for name, value in scores.items()}

    def _possible_arms(self, trainer: Trainer, batches: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        """Return the arms that these samples allow; volumes of one patient cannot all be another's."""
        patients = [patient for batch in batches for patient in batch.get("patient_id") or []]
        possible = True
        try:
            other_patient_permutation(patients)
        except DatasetError as error:
            _log.warning("No reports with volumes of other patients. %s", error)
            possible = False
        # processes log the same scores, or they would wait for each other
        if trainer.strategy.reduce_boolean_decision(possible, all=True):
            return self.arms
        return tuple(arm for arm in self.arms if arm != _MAIN)

    def _write(self) -> None:
        assert self.history_file is not None  # noqa: S101  (the caller asked)
        self.history_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.history_file, [point.to_dict() for point in self.history])

    def state_dict(self) -> dict[str, Any]:
        """Return every look so far."""
        return {"history": [point.to_dict() for point in self.history], "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a run was."""
        self.history = [CollapsePoint(**point) for point in state_dict["history"]]
        self.last = state_dict.get("last", {})  # checkpoints of earlier versions have none


def _mean_over_processes(trainer: Trainer, values: dict[str, float]) -> dict[str, float]:
    if trainer.world_size == 1:
        return values
    own = torch.tensor([*values.values()], dtype=torch.float64, device=trainer.strategy.root_device)
    return dict(zip(values, trainer.strategy.reduce(own, reduce_op="mean").tolist(), strict=True))
