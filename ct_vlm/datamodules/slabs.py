"""Views of slabs for self-supervised training of slice encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.datamodules.base import VolumeDataModule
from ct_vlm.datamodules.patients import split_patients
from ct_vlm.datasets.ct_rate import CTRateDataset
from ct_vlm.datasets.segmentation import SegmentationDataset
from ct_vlm.datasets.slabs import SlabDataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ct_vlm.transforms import CTPreset, SlabViews


class SlabDataModule(VolumeDataModule):
    """Slab views of CT-RATE volumes, split by patient; neither reports nor labels are read.

    With ``labels_root`` the volumes are those that have a label map there. It guides local crops to
    labelled pixels and, with ``view_labels``, gives an auxiliary loss its targets: then the encoder
    has seen labels, if no text.

    CT-RATE's validation split is never read.

    Args:
        root: Folder that holds CT-RATE's ``dataset/``, or that folder itself.
        preset: Preprocessing, by name, config or object. Its windows are applied to views on the device.
        views: How views are made; the published encoder's by default.
        labels_root: nnU-Net data set with label maps of these volumes (its ``dataset.json``, or a folder
            ``segmentation`` with it).
        view_labels: Whether batches hold the labels of each view.
        slabs_per_volume: Slabs of each volume in an epoch.
        batch_size: Slabs a batch and process in training.
        val_fraction: Share of training patients that validate; 0 for none.
        seed: Decides validation patients, orders, slabs and views.
        recon_policy: ``all``, ``first`` or ``random`` reconstructions of a scan (without ``labels_root``).
        version: ``auto``, ``v1`` or ``v2``.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        cache_dir: Where preprocessed volumes are kept: without one, every slab reads a whole file.
        cache_codec: How new ones are written, see :class:`ct_vlm.cache.ArrayCache`.
        drop_last: Leave an incomplete last training batch out (SIGReg wants full batches).
        **loader: ``eval_batch_size``, ``num_workers``, ``pin_memory`` and ``prefetch``, see
            :class:`ct_vlm.datamodules.VolumeDataModule`.

    **Shape:**
        - global_views: ``(B, C, V, h, w)`` after transfer; local_views likewise.
        - global_labels, local_labels: ``(B, V, K)``.
    """

    def __init__(
        self,
        root: str | Path,
        preset: str | CTPreset | Mapping[str, Any] = "ker_vljepa",
        *,
        views: SlabViews | None = None,
        labels_root: str | Path | None = None,
        view_labels: bool = False,
        slabs_per_volume: int = 8,
        batch_size: int = 64,
        val_fraction: float = 0.05,
        seed: int = 0,
        recon_policy: str = "all",
        version: str = "auto",
        hu_source: str = "auto",
        cache_dir: str | Path | None = None,
        cache_codec: str = "zstd",
        drop_last: bool = True,
        **loader: Any,
    ) -> None:
        super().__init__(preset, batch_size=batch_size, seed=seed, drop_last=drop_last, **loader)
        self.root, self.labels_root = root, labels_root
        self.val_fraction = val_fraction
        self.view_labels = view_labels
        self._num_labels = 0
        self._slabs: dict[str, Any] = {"views": views, "slabs_per_volume": slabs_per_volume, "seed": seed}
        self._recon_policy = recon_policy
        self._arguments: dict[str, Any] = {
            "preset": self.preset,
            "version": version,
            "hu_source": hu_source,
            "cache_dir": cache_dir,
            "cache_codec": cache_codec,
            "seed": seed,
        }

    def setup(self, stage: str | None = None) -> None:
        """Index the training volumes.

        Args:
            stage: ``fit`` or ``validate``; other stages have no data here.

        Raises:
            DatasetError: If folders or tables are missing or malformed.
        """
        if stage not in {None, "fit", "validate"} or self.datasets:
            return
        everyone = self._volumes()
        train, val = split_patients(everyone.patient_ids(), self.val_fraction, self.seed)
        for name, patients in (("train", train), ("val", val)):
            if patients:
                source = everyone.subset(patients)
                self.datasets[name] = SlabDataset(
                    source, num_labels=self.num_labels, fixed=name == "val", **self._slabs
                )

    @property
    def num_labels(self) -> int:
        """Labels K of each view: the largest id; 0 without ``view_labels``. Known after ``setup``."""
        return self._num_labels if self.view_labels else 0

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Window the views to float channels on the device.

        Args:
            batch: Its ``global_views`` and ``local_views`` become ``(B, C, V, h, w)`` float.
            dataloader_idx: Not used.
        """
        views = {name: batch[name] for name in ("global_views", "local_views") if name in batch}
        windowed: dict[str, Any] = {
            name: view if view.is_floating_point() else self.preset.window(view) for name, view in views.items()
        }
        return {**batch, **windowed}

    def _volumes(self) -> CTRateDataset | SegmentationDataset:
        """Return the volumes that slabs are cut from."""
        if self.labels_root is None:
            arguments: dict[str, Any] = {"recon_policy": self._recon_policy, **self._arguments}
            return CTRateDataset(self.root, "train", text=None, labels=False, **arguments)
        labelled = SegmentationDataset(self.labels_root, images=self.root, split="train", **self._arguments)
        self._num_labels = labelled.num_classes - 1
        return labelled
