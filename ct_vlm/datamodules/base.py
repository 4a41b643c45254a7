"""What the data modules share: loaders that shard and resume, and windows on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningDataModule

from ct_vlm.datamodules.balancing import class_balanced_weights
from ct_vlm.datamodules.loader import ResumableDataLoader, make_loader
from ct_vlm.errors import ConfigError
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.transforms import CTPreset


class VolumeDataModule(LightningDataModule):
    """Base of data modules whose items hold int16 HU.

    Integers travel to the device and are windowed there by the preset: a quarter of the transfer
    and no float copy on the host.

    The loaders shard themselves, with or without ``Trainer(use_distributed_sampler=...)``. In
    evaluation every sample comes exactly once, and every process gets equally many batches.

    Args:
        preset: Preprocessing, by name, config or object.
        batch_size: Samples a batch and process in training.
        eval_batch_size: The same in evaluation; ``batch_size`` unless given.
        num_workers: Reading processes of each loader.
        seed: Decides splits, orders and random choices of the data set.
        pin_memory: Page-locked memory for faster transfer; where a GPU is, unless given.
        drop_last: Leave an incomplete last training batch out.
        balance: Draw samples of rare labels more often in training, from 0 (every sample once) to 1;
            see :func:`ct_vlm.datamodules.class_balanced_weights`.
        prefetch: Batches that each reading process prepares ahead. Host memory of a loader is at most
            ``num_workers * prefetch + 1`` batches, and a page-locked one.
    """

    def __init__(
        self,
        preset: str | CTPreset | Mapping[str, Any] = "phantom",
        *,
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool | None = None,
        drop_last: bool = False,
        balance: float = 0.0,
        prefetch: int = 2,
    ) -> None:
        super().__init__()
        self.preset = get_preset(preset)
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.drop_last = drop_last
        self.balance = balance
        self.prefetch = prefetch
        self.datasets: dict[str, Any] = {}

    def train_dataloader(self) -> ResumableDataLoader:
        """Return the training batches of this process."""
        return self.loader("train", train=True)

    def val_dataloader(self) -> ResumableDataLoader | list[Any]:
        """Return the validation batches; none without a validation part."""
        return self.loader("val") if "val" in self.datasets else []

    def test_dataloader(self) -> ResumableDataLoader:
        """Return the test batches."""
        return self.loader("test")

    def predict_dataloader(self) -> ResumableDataLoader:
        """Return the batches to predict."""
        return self.loader("predict")

    def loader(self, name: str, *, train: bool = False) -> ResumableDataLoader:
        """Return a loader over one of :attr:`datasets`.

        Args:
            name: ``train``, ``val``, ``test`` or ``predict``.
            train: Shuffle, pad and resume; otherwise in order, each sample once.

        Raises:
            ConfigError: If that part was not set up or is empty.
        """
        if not len(self.datasets.get(name, ())):
            state = "is empty" if name in self.datasets else "was not set up"
            cause = f"The {name!r} part of the data {state}."
            raise ConfigError(cause, "Call `setup` first, and look at `datasets[name].report` for what was left out.")
        replicas, rank = self._shard()
        return make_loader(
            self.datasets[name],
            batch_size=self.batch_size if train else self.eval_batch_size,
            shuffle=train,
            seed=self.seed,
            num_replicas=replicas,
            rank=rank,
            num_workers=self.num_workers,
            drop_last=self.drop_last and train,
            pin_memory=self.pin_memory,
            weights=self._weights(name) if train and self.balance else None,
            prefetch_factor=self.prefetch if self.num_workers else None,
        )

    def training_labels(self) -> list[list[float]]:
        """Return the labels of every training sample, NaN where unknown; no voxels are read.

        Raises:
            ConfigError: If there is no training part with labels.
        """
        rows = self._labels("train")
        if rows is None:
            cause = "The 'train' part of the data has no labels."
            raise ConfigError(cause, "Set the data up for `fit`, and pass `labels=True`.")
        return rows

    def _labels(self, name: str) -> list[list[float]] | None:
        """Return one row of labels a sample, or None if there are none."""
        dataset = self.datasets.get(name, ())
        read = getattr(dataset, "sample", None)
        labels = [] if read is None else [getattr(read(index), "labels", None) for index in range(len(dataset))]
        known = [row for row in labels if row is not None]
        if not known:
            return None
        unknown = [float("nan")] * len(known[0])
        return [unknown if row is None else list(row) for row in labels]

    def _weights(self, name: str) -> list[float]:
        """Return how often to draw each sample, from its labels.

        Raises:
            ConfigError: If the data set has no labels.
        """
        rows = self._labels(name)
        if rows is None:
            cause = f"`balance={self.balance}` needs labels, but the {name!r} part of the data has none."
            raise ConfigError(cause, "Pass `labels=True`, or `balance=0`.")
        return list(map(float, class_balanced_weights(rows, self.balance)))

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Window integer HU to float channels on the device.

        Args:
            batch: Its ``image`` becomes ``(B, C, D, H, W)`` float.
            dataloader_idx: Not used.
        """
        image = batch.get("image")
        if image is None or image.is_floating_point():
            return batch
        return {**batch, "image": self.preset.window(image)}

    def _shard(self) -> tuple[int, int]:
        """Return the number of data-parallel processes and this process's rank among them."""
        trainer = self.trainer
        shard = None if trainer is None else trainer.distributed_sampler_kwargs
        return (1, 0) if not shard else (int(shard["num_replicas"]), int(shard["rank"]))
