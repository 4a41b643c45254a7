"""The base of data modules that add to the batches of another one, whichever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning import LightningDataModule

if TYPE_CHECKING:
    import torch


class WrappingDataModule(LightningDataModule):
    """Another data module's batches, loaders and state; a subclass changes what it is there for.

    Args:
        data: Any data module, which may wrap another one itself.

    Attributes:
        data: The data module that is wrapped.
        preset: Its preset, which tasks compare with their model's; None if it has none.

    Example:
        >>> from ct_vlm.datamodules import CTRateDataModule
        >>> from ct_vlm.datamodules.wrapping import WrappingDataModule
        >>> data = WrappingDataModule(CTRateDataModule("phantoms", "phantom"))
        >>> data.preset.name, data.flips
        ('phantom', False)
    """

    def __init__(self, data: LightningDataModule) -> None:
        super().__init__()
        self.data = data
        self.preset = getattr(data, "preset", None)

    @property
    def flips(self) -> bool:
        """Whether volumes are mirrored in training: texts from files are not mirrored with them."""
        inner: Any = self.data
        while inner is not None:
            if getattr(getattr(inner, "augment", None), "flip_probability", 0) > 0:
                return True
            inner = getattr(inner, "data", None)
        return False

    def training_labels(self) -> list[list[float]]:
        """Return the labels of every training sample, NaN where unknown."""
        inner: Any = self.data
        labels: list[list[float]] = inner.training_labels()
        return labels

    def prepare_data(self) -> None:
        """Prepare the data."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Set the data up.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def train_dataloader(self) -> Any:
        """Return the data's training batches."""
        return self.data.train_dataloader()

    def val_dataloader(self) -> Any:
        """Return the data's validation batches."""
        return self.data.val_dataloader()

    def test_dataloader(self) -> Any:
        """Return the data's test batches."""
        return self.data.test_dataloader()

    def predict_dataloader(self) -> Any:
        """Return the data's batches to predict."""
        return self.data.predict_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Return the data's state."""
        return self.data.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the data's state."""
        self.data.load_state_dict(state_dict)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch as the data does."""
        return self.data.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Let the data finish the batch."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)
