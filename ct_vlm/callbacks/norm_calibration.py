"""Norm calibration again and again while what it scales trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning import Callback

from ct_vlm.errors import ConfigError
from ct_vlm.modules import NormCalibrator
from ct_vlm.modules.unread import unread_names

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class NormCalibration(Callback):
    """Calibrate every :class:`ct_vlm.modules.NormCalibrator` on the first batch of every so many epochs.

    Calibrators whose ``alpha`` is frozen are left alone.

    Args:
        every_n_epochs: How often; 1 is every epoch (inferred: the paper says "periodically").

    Raises:
        ConfigError: If the period is below 1.

    Example:
        >>> from ct_vlm.callbacks import NormCalibration
        >>> NormCalibration(every_n_epochs=5).every_n_epochs
        5
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            cause = f"Expected `every_n_epochs` of at least 1, but got {every_n_epochs}."
            raise ConfigError(cause, "Leave the callback out for no calibration.")
        self.every_n_epochs = every_n_epochs
        self._last: int | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for a calibration on the epoch's first batch."""
        if trainer.current_epoch % self.every_n_epochs or trainer.current_epoch == self._last:
            return
        self._last = trainer.current_epoch
        for module in pl_module.modules():
            # a scale that no loss reads in this phase is still that of the next one
            if isinstance(module, NormCalibrator) and (module.alpha.requires_grad or unread_names(module)):
                module.request()

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch of the last calibration."""
        return {"last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let a run that goes on within an epoch keep that epoch's calibration.

        Args:
            state_dict: From :meth:`state_dict`.
        """
        self._last = state_dict["last"]
