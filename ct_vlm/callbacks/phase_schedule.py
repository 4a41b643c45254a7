"""Rules of a training phase: what stops training after some epochs, and when the learning rate falls."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

from lightning import Callback

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class FreezeAfterEpoch(Callback):
    r"""Stop training some parameters once a number of epochs is over.

    Their gradients are dropped before the optimizer and gradient clipping see them, so neither momentum
    nor weight decay moves them. They keep taking part in the backward pass, which data parallelism
    relies on.

    Args:
        pattern: Pattern of parameter names.
        epochs: Epochs for which they train.

    Raises:
        ConfigError: If the pattern is malformed or, at the start of a fit, names nothing that trains.

    Example:
        >>> from ct_vlm.callbacks import FreezeAfterEpoch
        >>> FreezeAfterEpoch(r"\.lora_", 6).epochs
        6

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: LoRA is frozen after epoch 6 of phase 3.
    """

    def __init__(self, pattern: str = r"\.lora_", epochs: int = 6) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            cause = f"`{pattern}` is no regular expression: {error}."
            raise ConfigError(cause, "Escape special characters.") from error
        self.epochs = epochs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that there is something to freeze."""
        if not any(p.requires_grad and self.pattern.search(name) for name, p in pl_module.named_parameters()):
            cause = f"No parameter that trains has a name like `{self.pattern.pattern}`."
            raise ConfigError(cause, "Leave `FreezeAfterEpoch` out, or correct its pattern.")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Drop the gradients of what has trained long enough."""
        if trainer.current_epoch < self.epochs:
            return
        for name, parameter in pl_module.named_parameters():
            if self.pattern.search(name):
                parameter.grad = None


class ReduceLROnMetric(Callback):
    """Multiply the learning rate when a logged metric no longer gets better.

    It works on top of the task's own schedule: what falls is the peak that the schedule refers to. Only values
    that a validation has logged itself count: those that stand for an earlier one are passed over. So with
    ``CollapseMonitor(every_n_epochs=2)`` a patience of 3 lasts six epochs, while that of Lightning's
    ``EarlyStopping`` counts every validation.

    Args:
        monitor: Metric that validation logs, e.g. ``val/gen_f1`` of :class:`CollapseMonitor`.
        mode: ``"max"`` if higher is better.
        patience: Values without a new best that are tolerated.
        factor: What the rate is multiplied by.
        min_factor: Smallest product of all reductions.

    Raises:
        ConfigError: If settings are out of range, or as many validations have not logged the metric as
            the largest ``every_n_epochs`` of the run's callbacks.

    Example:
        >>> from ct_vlm.callbacks import ReduceLROnMetric
        >>> rule = ReduceLROnMetric("val/gen_f1", patience=1)
        >>> [rule.seen(value) for value in (0.3, 0.2, 0.1, 0.4)]
        [False, False, True, False]

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, phase 3: generation F1, patience 3, factor 0.5.
    """

    def __init__(
        self,
        monitor: str = "val/gen_f1",
        mode: Literal["max", "min"] = "max",
        *,
        patience: int = 3,
        factor: float = 0.5,
        min_factor: float = 1e-3,
    ) -> None:
        if not 0 < factor < 1 or patience < 0 or mode not in ("max", "min"):
            cause = f"Expected 0 < factor < 1, patience >= 0 and mode 'max' or 'min', but got {factor}, "
            cause += f"{patience} and {mode!r}."
            raise ConfigError(cause, "Use patience=3, factor=0.5.")
        self.monitor, self.mode, self.patience, self.factor = monitor, mode, patience, factor
        self.min_factor = min_factor
        self.best, self.waited, self.product = math.nan, 0, 1.0
        self._before: Any = None
        self._without = 0

    def seen(self, value: float) -> bool:
        """Take the metric of a validation; tell whether the rate is to fall."""
        better = math.isnan(self.best) or (value > self.best if self.mode == "max" else value < self.best)
        if better:
            self.best, self.waited = value, 0
            return False
        self.waited += 1
        if self.waited <= self.patience or self.product * self.factor < self.min_factor:
            return False
        self.waited = 0
        self.product *= self.factor
        return True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the value of an earlier validation, which Lightning keeps until there is a new one."""
        self._before = trainer.callback_metrics.get(self.monitor)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the metric, and reduce every rate if it has not got better for too long."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            self._miss(trainer)
        elif value is not self._before and self.seen(float(value)):
            self._reduce(trainer)

    def _reduce(self, trainer: Trainer) -> None:
        for config in trainer.lr_scheduler_configs:
            config.scheduler.base_lrs = [rate * self.factor for rate in config.scheduler.base_lrs]
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= self.factor

    def _miss(self, trainer: Any) -> None:
        """Wait for the first value as long as a callback may take that does not look at every epoch."""
        self._without += 1
        rhythms = [getattr(callback, "every_n_epochs", 1) for callback in trainer.callbacks]
        if self._without < max(rhythm for rhythm in rhythms if isinstance(rhythm, int)):
            return
        cause = (
            f"{self._without} validation(s) have logged no `{self.monitor}`, but {sorted(trainer.callback_metrics)}."
        )
        raise ConfigError(cause, "Add a callback that logs it, as `CollapseMonitor` does, or monitor another metric.")

    def state_dict(self) -> dict[str, Any]:
        """Return what the rule has seen; the rates themselves are the schedule's state."""
        return {"best": self.best, "waited": self.waited, "product": self.product}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a run was."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        self.product = state_dict["product"]
