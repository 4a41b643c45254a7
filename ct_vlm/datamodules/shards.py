"""CT-RATE from shards for a Lightning Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.datamodules.base import VolumeDataModule
from ct_vlm.datamodules.patients import split_patients
from ct_vlm.datasets.layout import check_split
from ct_vlm.datasets.shards import ShardDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ct_vlm.transforms import CTPreset, FlipSafeAugmentation


class ShardDataModule(VolumeDataModule):
    """What :class:`ct_vlm.datamodules.CTRateDataModule` gives, read from shards in a folder or an object store.

    With the same seed and settings it gives the same batches in the same order. It shards over processes and resumes
    in mid-epoch in the same way.

    Args:
        root: Folder or address with the folders ``train`` and ``valid`` that ``ct-vlm shards`` wrote.
        preset: Preprocessing; its geometry must be that of the shards, its windows may differ.
        batch_size: Samples a batch and process in training.
        eval_batch_size: The same in evaluation; ``batch_size`` unless given.
        num_workers: Reading processes of each loader.
        val_fraction: Share of training patients that validate; 0 for none.
        seed: Decides validation patients, orders and random choices.
        text: Whether batches hold the reports that were written.
        labels: Whether batches hold the labels that were written.
        recon_policy: ``all``, ``first`` or ``random`` reconstructions in training; evaluation takes the first of
            each scan unless the policy is ``all``.
        predict_split: Split that ``predict`` reads, without reports and labels.
        augment: Called with item and seed, in training only.
        cache_dir: Where files of an object store are copied to; ``~/.cache/ct_vlm/shards`` by default.
        max_cache_gb: How much of each split is copied at most; the rest is read from the store in every epoch.
        storage_options: Passed to litdata: endpoint, region and the like.
        pin_memory: Page-locked memory; where a GPU is, unless given.
        drop_last: Leave an incomplete last training batch out.
        balance: Draw rare labels more often in training, from 0 to 1.
        prefetch: Batches that each reading process prepares ahead.

    **Shape:**
        - image: ``(B, C, D, H, W)`` after transfer.
        - labels: ``(B, 18)``.
        - spacing: ``(B, 3)``.
    """

    def __init__(
        self,
        root: str | Path,
        preset: str | CTPreset | Mapping[str, Any] = "phantom",
        *,
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        val_fraction: float = 0.05,
        seed: int = 0,
        text: bool = True,
        labels: bool = True,
        recon_policy: str = "all",
        predict_split: str = "valid",
        augment: FlipSafeAugmentation | Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        max_cache_gb: float = 100.0,
        storage_options: Mapping[str, Any] | None = None,
        pin_memory: bool | None = None,
        drop_last: bool = False,
        balance: float = 0.0,
        prefetch: int = 2,
    ) -> None:
        super().__init__(
            preset,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            pin_memory=pin_memory,
            drop_last=drop_last,
            balance=balance,
            prefetch=prefetch,
        )
        self.root = str(root).rstrip("/")
        self.val_fraction = val_fraction
        self.recon_policy = recon_policy
        self.predict_split = check_split(predict_split)
        self.augment = augment
        self._targets = {"text": text, "labels": labels}
        self._arguments: dict[str, Any] = {
            "preset": self.preset,
            "cache_dir": cache_dir,
            "max_cache_gb": max_cache_gb,
            "storage_options": storage_options,
            "seed": seed,
        }

    def setup(self, stage: str | None = None) -> None:
        """Read the index of what a stage needs.

        Args:
            stage: ``fit``, ``validate``, ``test``, ``predict``, or ``None`` for all.

        Raises:
            DatasetError: If there are no shards.
            ConfigError: If they were written with another geometry.
        """
        if stage in {None, "fit", "validate"} and "train" not in self.datasets:
            everyone = self._dataset("train", recon_policy=self.recon_policy, augment=self.augment)
            train, val = split_patients(everyone.patient_ids(), self.val_fraction, self.seed)
            self.datasets["train"] = everyone.subset(train)
            if val:
                self.datasets["val"] = everyone.subset(val, recon_policy=self._eval_policy(), augment=None)
        if stage in {None, "test"} and "test" not in self.datasets:
            self.datasets["test"] = self._dataset("valid", recon_policy=self._eval_policy())
        if stage in {None, "predict"} and "predict" not in self.datasets:
            self.datasets["predict"] = self._dataset(
                self.predict_split, recon_policy=self._eval_policy(), text=False, labels=False
            )

    def _eval_policy(self) -> str:
        """Return the reconstructions that evaluation reads: never random ones."""
        return "all" if self.recon_policy == "all" else "first"

    def _dataset(self, split: str, **changes: Any) -> ShardDataset:
        """Return the data set of a split."""
        return ShardDataset(f"{self.root}/{split}", **{**self._arguments, **self._targets, **changes})
