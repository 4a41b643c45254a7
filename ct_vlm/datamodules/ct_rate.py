"""CT-RATE for a Lightning Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.datamodules.base import VolumeDataModule
from ct_vlm.datamodules.patients import split_patients
from ct_vlm.datasets.ct_rate import CTRateDataset
from ct_vlm.datasets.layout import check_split

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from ct_vlm.transforms import CTPreset, FlipSafeAugmentation


class CTRateDataModule(VolumeDataModule):
    """CT-RATE volumes, reports and labels, split by patient.

    CT-RATE's ``valid`` split is everyone's test set, so it is ``test`` here, and validation is
    carved from ``train`` by patient.

    Args:
        root: Folder that holds CT-RATE's ``dataset/``, or that folder itself.
        preset: Preprocessing, by name, config or object.
        batch_size: Samples a batch and process in training.
        eval_batch_size: The same in evaluation; ``batch_size`` unless given.
        num_workers: Reading processes of each loader.
        val_fraction: Share of training patients that validate; 0 for none.
        seed: Decides validation patients, orders and random choices.
        text: ``findings``, ``impressions``, ``both``, or ``None`` for no reports.
        labels: Whether batches hold the 18 labels.
        recon_policy: ``all``, ``first`` or ``random`` reconstructions in training; evaluation
            takes the first of each scan unless the policy is ``all``.
        predict_split: Split that ``predict`` reads, without need of report or label tables.
        version: ``auto``, ``v1`` or ``v2``.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        exclude_no_chest: Leave out CT-RATE's list of scans that show no chest.
        extra_tables: Name to CSV, joined on the volume name.
        exclude: Volume names to leave out.
        augment: Called with item and seed, in training only.
        cache_dir: Where preprocessed volumes are kept; ``None`` for no cache.
        cache_codec: How new ones are written, see :class:`ct_vlm.cache.ArrayCache`.
        check_files: Look every file up on disk.
        pin_memory: Page-locked memory; where a GPU is, unless given.
        drop_last: Leave an incomplete last training batch out.
        balance: Draw rare labels more often in training, from 0 to 1; see
            :func:`ct_vlm.datamodules.class_balanced_weights`.
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
        text: str | None = "findings",
        labels: bool = True,
        recon_policy: str = "all",
        predict_split: str = "valid",
        version: str = "auto",
        hu_source: str = "auto",
        exclude_no_chest: bool = True,
        extra_tables: Mapping[str, str | Path] | None = None,
        exclude: Collection[str] = (),
        augment: FlipSafeAugmentation | Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        cache_codec: str = "zstd",
        check_files: bool = True,
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
        self.root = root
        self.val_fraction = val_fraction
        self.recon_policy = recon_policy
        self.predict_split = check_split(predict_split)
        self.augment = augment
        self.check_files = check_files
        self._arguments: dict[str, Any] = {
            "version": version,
            "preset": self.preset,
            "hu_source": hu_source,
            "exclude_no_chest": exclude_no_chest,
            "extra_tables": extra_tables,
            "exclude": exclude,
            "cache_dir": cache_dir,
            "cache_codec": cache_codec,
            "seed": seed,
        }
        self._targets: dict[str, Any] = {"text": text, "labels": labels}

    def setup(self, stage: str | None = None) -> None:
        """Index what a stage needs.

        Args:
            stage: ``fit``, ``validate``, ``test``, ``predict``, or ``None`` for all.

        Raises:
            DatasetError: If folders or tables are missing or malformed.
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
                self.predict_split, recon_policy=self._eval_policy(), text=None, labels=False
            )

    def _eval_policy(self) -> str:
        """Return the reconstructions that evaluation reads: never random ones."""
        return "all" if self.recon_policy == "all" else "first"

    def _dataset(self, split: str, **changes: Any) -> CTRateDataset:
        """Return the data set of a split."""
        arguments = {"check_files": self.check_files, **self._arguments, **self._targets, **changes}
        if arguments["text"] is None and not arguments["labels"]:
            arguments["check_files"] = True  # without tables the files are the index
        return CTRateDataset(self.root, split, **arguments)
