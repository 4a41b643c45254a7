"""Optimizer and learning-rate schedule as one JSON-able setting."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from ct_vlm.errors import ConfigError
from ct_vlm.tasks.muon import Muon, takes_muon

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer, schedule and per-part learning-rate factors.

    Args:
        name: ``"adamw"``, ``"sgd"`` (Nesterov) or ``"muon"`` (:class:`~ct_vlm.tasks.muon.Muon` for weight
            matrices and convolutions, AdamW for the rest).
        lr: Peak learning rate.
        weight_decay: Weight decay.
        momentum: Momentum of SGD (that of ``"muon"`` is .95).
        betas: Betas of AdamW (also inside ``"muon"``).
        schedule: ``"cosine"``, ``"poly"`` (power 0.9) or ``"constant"``, after the warm-up.
        warmup_fraction: Share of all steps in which the rate rises linearly; a run without a known
            number of steps has no warm-up.
        lr_factors: Module-name prefix to factor, e.g. ``{"encoder": 0.1}``.
        eps: Denominator of AdamW (also inside ``"muon"``).
        final_factor: Learning rate at the end of the schedule, relative to the peak.

    Raises:
        ConfigError: If a name is unknown or the rate is not positive.

    Example:
        >>> from ct_vlm.tasks import OptimizerConfig
        >>> OptimizerConfig(lr=1e-2, schedule="poly").factor(step=50, total=100)
        0.561...
    """

    name: Literal["adamw", "sgd", "muon"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.99
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    warmup_fraction: float = 0.05
    lr_factors: dict[str, float] | None = None
    eps: float = 1e-8
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.name not in ("adamw", "sgd", "muon") or self.schedule not in ("cosine", "poly", "constant"):
            cause = f"Unknown optimizer {self.name!r} or schedule {self.schedule!r}."
            raise ConfigError(cause, "Use 'adamw', 'sgd' or 'muon' with 'cosine', 'poly' or 'constant'.")
        if not self.lr > 0:
            msg = f"Expected a positive `lr`, but got {self.lr}."
            raise ConfigError(msg, "Try 1e-3 for small models.")
        if not (self.eps > 0 and 0 <= self.final_factor <= 1):
            msg = f"Expected a positive `eps` and `final_factor` in [0, 1], but got {self.eps} and {self.final_factor}."
            raise ConfigError(msg, "The defaults are 1e-8 and 0.")

    def to_config(self) -> dict[str, Any]:
        """Return a JSON config."""
        cls = type(self)
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": asdict(self)}

    @classmethod
    def from_config(cls, args: Mapping[str, Any]) -> OptimizerConfig:
        """Build from the ``init_args`` of :meth:`to_config`."""
        values = dict(args)
        if "betas" in values:
            values["betas"] = tuple(values["betas"])
        return cls(**values)

    def factor(self, step: int, total: float) -> float:
        """Return the learning rate at a step, relative to the peak."""
        if math.isinf(total):
            return 1.0
        warmup = max(1, round(self.warmup_fraction * total)) if self.warmup_fraction > 0 else 0
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        if self.schedule == "constant":
            return 1.0
        left = 0.5 * (1 + math.cos(math.pi * progress)) if self.schedule == "cosine" else (1 - progress) ** 0.9
        return float(self.final_factor + (1 - self.final_factor) * left)

    def build(
        self,
        parameters: Iterable[tuple[str, torch.nn.Parameter]],
        total_steps: float,
        *,
        unread: Collection[str] = (),
    ) -> dict[str, Any]:
        """Return what Lightning's ``configure_optimizers`` returns.

        Args:
            parameters: Named parameters; those that do not require gradients are left out.
            total_steps: Steps of the whole run; infinite where only time ends it.
            unread: Names of parameters that no loss reads. They are kept though they require no gradients:
                no step changes them, and the groups are those of a checkpoint from before.

        Raises:
            ConfigError: If nothing is left to train, a prefix of ``lr_factors`` names no parameter,
                or the schedule needs a number of steps and there is none.
        """
        if math.isinf(total_steps) and self.schedule != "constant":
            cause = f"The schedule {self.schedule!r} needs a number of steps, but the run has no end."
            raise ConfigError(cause, "Give the trainer `max_steps` or `max_epochs`, or use schedule 'constant'.")
        named = list(parameters)
        self._check_prefixes([name for name, _ in named])
        groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in named:
            if parameter.requires_grad or name in unread:
                key = (self._lr_factor(name), self.name == "muon" and takes_muon(name, parameter))
                groups.setdefault(key, []).append(parameter)
        if not any(parameter.requires_grad for _, parameter in named):
            msg = "No parameter is left to train."
            raise ConfigError(msg, "Freeze fewer parts.")
        optimizer = self._optimizer(groups)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._scheduler(optimizer, total_steps), "interval": "step"},
        }

    def _optimizer(self, groups: Mapping[tuple[float, bool], list[torch.nn.Parameter]]) -> Optimizer:
        settings: list[dict[str, Any]] = [{"params": g, "lr": self.lr * factor} for (factor, _), g in groups.items()]
        if self.name == "sgd":
            return torch.optim.SGD(
                settings, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=True
            )
        if self.name == "muon":
            settings = [{**s, "use_muon": use} for s, (_, use) in zip(settings, groups, strict=True)]
            return Muon(settings, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)
        return torch.optim.AdamW(settings, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)

    def _check_prefixes(self, names: Sequence[str]) -> None:
        for prefix in self.lr_factors or {}:
            if not any(_below(name, prefix) for name in names):
                parts = sorted({name.partition(".")[0] for name in names})
                cause = f"`lr_factors` names no part: {prefix!r}."
                raise ConfigError(cause, f"Parts are: {parts}.")

    def _lr_factor(self, name: str) -> float:
        for prefix, factor in (self.lr_factors or {}).items():
            if _below(name, prefix):
                return factor
        return 1.0

    def _scheduler(self, optimizer: Optimizer, total_steps: float) -> LambdaLR:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, total_steps))


def _below(name: str, prefix: str) -> bool:
    """Tell whether a parameter is the named one or lies in the named module."""
    return name == prefix or name.startswith(f"{prefix}.")


PAPER_OPTIMIZERS: dict[str, OptimizerConfig] = {
    "segmentation": OptimizerConfig("sgd", 1e-2, 3e-5, 0.99, schedule="poly", warmup_fraction=0.0),
    "classification": OptimizerConfig(
        "adamw", 2e-5, 0.01, schedule="poly", warmup_fraction=0.0, lr_factors={"encoder": 0.1}
    ),
    "report": OptimizerConfig("adamw", 2e-5, 0.01, schedule="poly", warmup_fraction=0.0, lr_factors={"encoder": 0.1}),
}
"""Settings of the U-VLM authors' trainers, by stage."""
