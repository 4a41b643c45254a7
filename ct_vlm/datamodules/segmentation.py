"""Label maps for a Lightning Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.datamodules.base import VolumeDataModule
from ct_vlm.datamodules.patients import split_patients
from ct_vlm.datasets.segmentation import SegmentationDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ct_vlm.transforms import CTPreset, FlipSafeAugmentation


class SegmentationDataModule(VolumeDataModule):
    """An nnU-Net data set: patches in training, whole volumes in evaluation, split by patient.

    Patients of CT-RATE's validation split never reach training or validation; they are ``test``.

    Args:
        root: Holds ``dataset.json``, or a folder ``segmentation`` that does.
        preset: Preprocessing, by name, config or object.
        images: CT-RATE tree with the images; the folder above the labels unless given.
        patch_size: Size of training patches; ``None`` for whole volumes.
        foreground_fraction: Share of patches centred on foreground.
        samples_per_volume: Patches of each volume in an epoch.
        batch_size: Samples a batch and process in training.
        eval_batch_size: The same in evaluation; ``batch_size`` unless given.
        num_workers: Reading processes of each loader.
        val_fraction: Share of training patients that validate; 0 for none.
        seed: Decides validation patients, orders and patches.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        version: CT-RATE version of images found by name.
        augment: Called with item and seed, in training only.
        cache_dir: Where preprocessed cases are kept; ``None`` for no cache.
        cache_codec: How new ones are written, see :class:`ct_vlm.cache.ArrayCache`.
        predict_split: Split that ``predict`` reads.
        pin_memory: Page-locked memory; where a GPU is, unless given.
        drop_last: Leave an incomplete last training batch out.

    **Shape:**
        - image: ``(B, C, D, H, W)`` after transfer.
        - segmentation: ``(B, D, H, W)``.
    """

    def __init__(
        self,
        root: str | Path,
        preset: str | CTPreset | Mapping[str, Any] = "phantom",
        *,
        images: str | Path | None = None,
        patch_size: int | Sequence[int] | None = None,
        foreground_fraction: float = 1 / 3,
        samples_per_volume: int = 1,
        batch_size: int = 2,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        seed: int = 0,
        hu_source: str = "auto",
        version: str = "auto",
        augment: FlipSafeAugmentation | Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        cache_codec: str = "zstd",
        predict_split: str = "valid",
        pin_memory: bool | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            preset,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            pin_memory=pin_memory,
            drop_last=drop_last,
        )
        self.root = root
        self.val_fraction = val_fraction
        self.predict_split = predict_split
        self._arguments: dict[str, Any] = {
            "images": images,
            "preset": self.preset,
            "hu_source": hu_source,
            "version": version,
            "cache_dir": cache_dir,
            "cache_codec": cache_codec,
            "seed": seed,
        }
        self._training: dict[str, Any] = {
            "patch_size": patch_size,
            "foreground_fraction": foreground_fraction,
            "samples_per_volume": samples_per_volume,
            "augment": augment,
        }

    def setup(self, stage: str | None = None) -> None:
        """Index what a stage needs.

        Args:
            stage: ``fit``, ``validate``, ``test``, ``predict``, or ``None`` for all.

        Raises:
            DatasetError: If the layout is incomplete.
        """
        if stage in {None, "fit", "validate"} and "train" not in self.datasets:
            everyone = SegmentationDataset(self.root, split="train", **self._arguments, **self._training)
            train, val = split_patients(everyone.patient_ids(), self.val_fraction, self.seed)
            self.datasets["train"] = everyone.subset(train)
            if val:
                self.datasets["val"] = everyone.subset(val, patch_size=None, augment=None)
        for name, split in (("test", "valid"), ("predict", self.predict_split)):
            if stage in {None, name} and name not in self.datasets:
                self.datasets[name] = SegmentationDataset(self.root, split=split, **self._arguments)

    @property
    def num_classes(self) -> int:
        """Channels that a segmentation head needs; known after ``setup``."""
        return int(next(iter(self.datasets.values())).num_classes)
