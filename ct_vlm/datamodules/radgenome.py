"""RadGenome-ChestCT for a Lightning Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.datamodules.base import VolumeDataModule
from ct_vlm.datamodules.patients import split_patients
from ct_vlm.datasets.layout import check_split
from ct_vlm.datasets.radgenome import RadGenomeDataset, RadGenomeVQA

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from ct_vlm.transforms import CTPreset, FlipSafeAugmentation


class RadGenomeDataModule(VolumeDataModule):
    """Scans of RadGenome-ChestCT with region masks and reports, split by patient.

    The ``valid`` split is everyone's test set, so it is ``test`` here, and validation is carved
    from ``train`` by patient.

    Args:
        root: Folder that holds ``dataset/``, or that folder itself.
        regions: ``ten``, ``six`` or a mapping, see :class:`ct_vlm.datasets.RadGenomeDataset`.
        preset: Preprocessing, by name, config or object.
        mask_level: ``region`` or ``anatomy`` masks.
        mask_mismatch: ``error``, ``resample`` or ``skip`` for masks on another grid.
        missing_mask: ``absent`` or ``error`` for masks without a file.
        mask_kind: ``pseudo`` or ``reference``: who drew the masks.
        mask_method: ``nearest`` or ``majority``.
        masks: Whether batches hold masks.
        text: ``regions`` or ``whole``: where the report comes from; ``None`` for no texts.
        region_template: How each region enters the merged report.
        tasks: Ask questions instead of showing each scan once: some of ``report``,
            ``abnormality``, ``presence``, ``location``, ``size``, ``disorder``. The question is
            ``prompt`` and the answer ``report``.
        templates: Wording of the questions, see :class:`ct_vlm.datasets.RadGenomeVQA`.
        labels: CT-RATE's label tables of both splits, if batches should hold labels.
        attributes: Folder of patient attributes, see :class:`ct_vlm.datasets.RadGenomeDataset`.
        missing_attributes: ``error`` or ``absent`` for volumes without them.
        val_fraction: Share of training patients that validate; 0 for none.
        seed: Decides validation patients, orders and random choices.
        predict_split: Split that ``predict`` reads, without need of tables.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        exclude: Volume names to leave out.
        augment: Called with item and seed, in training only.
        cache_dir: Where preprocessed volumes and masks are kept; ``None`` for no cache.
        cache_codec: How new ones are written, see :class:`ct_vlm.cache.ArrayCache`.
        check_files: Look every file up on disk.
        **loader: ``batch_size``, ``eval_batch_size``, ``num_workers``, ``pin_memory``, ``drop_last``,
            ``balance`` (needs ``labels``) and ``prefetch``, see
            :class:`ct_vlm.datamodules.VolumeDataModule`.

    **Shape:**
        - image: ``(B, C, D, H, W)`` after transfer.
        - region_masks: ``(B, R, D, H, W)`` uint8.
        - region_present, region_mask_found, region_text_present: ``(B, R)`` bool.
        - labels: ``(B, 18)``.
    """

    def __init__(
        self,
        root: str | Path,
        regions: str | Mapping[str, str | Sequence[str]] = "ten",
        preset: str | CTPreset | Mapping[str, Any] = "phantom",
        *,
        mask_level: str = "region",
        mask_mismatch: str = "error",
        missing_mask: str = "absent",
        mask_kind: str = "pseudo",
        mask_method: str = "nearest",
        masks: bool = True,
        text: str | None = "regions",
        region_template: str = "{text}",
        tasks: Sequence[str] | None = None,
        templates: Mapping[str, str | Sequence[str]] | None = None,
        labels: str | Path | Sequence[str | Path] | None = None,
        attributes: str | Path | None = None,
        missing_attributes: str = "error",
        val_fraction: float = 0.05,
        seed: int = 0,
        predict_split: str = "valid",
        hu_source: str = "auto",
        exclude: Collection[str] = (),
        augment: FlipSafeAugmentation | Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        cache_codec: str = "zstd",
        check_files: bool = True,
        **loader: Any,
    ) -> None:
        super().__init__(preset, seed=seed, **loader)
        self.root = root
        self.val_fraction = val_fraction
        self.predict_split = check_split(predict_split)
        self.augment = augment
        self.tasks = tasks
        self.templates = templates
        self._arguments: dict[str, Any] = {
            "regions": regions,
            "mask_level": mask_level,
            "preset": self.preset,
            "masks": masks,
            "mask_mismatch": mask_mismatch,
            "missing_mask": missing_mask,
            "mask_kind": mask_kind,
            "mask_method": mask_method,
            "attributes": attributes,
            "missing_attributes": missing_attributes,
            "hu_source": hu_source,
            "exclude": exclude,
            "cache_dir": cache_dir,
            "cache_codec": cache_codec,
            "check_files": check_files,
            "seed": seed,
        }
        self._targets: dict[str, Any] = {"text": text, "region_template": region_template, "labels": labels}

    def setup(self, stage: str | None = None) -> None:
        """Index what a stage needs.

        Args:
            stage: ``fit``, ``validate``, ``test``, ``predict``, or ``None`` for all.

        Raises:
            DatasetError: If folders, tables or masks are missing or malformed.
        """
        if stage in {None, "fit", "validate"} and "train" not in self.datasets:
            everyone = self._asked(self._dataset("train", augment=self.augment, **self._targets))
            train, val = split_patients(everyone.patient_ids(), self.val_fraction, self.seed)
            self.datasets["train"] = everyone.subset(train)
            if val:
                self.datasets["val"] = everyone.subset(val, augment=None)
        if stage in {None, "test"} and "test" not in self.datasets:
            self.datasets["test"] = self._asked(self._dataset("valid", **self._targets))
        if stage in {None, "predict"} and "predict" not in self.datasets:
            # without tables the files are the index
            self.datasets["predict"] = self._dataset(self.predict_split, text=None, check_files=True)

    def _dataset(self, split: str, **changes: Any) -> RadGenomeDataset:
        """Return the data set of a split."""
        return RadGenomeDataset(self.root, split, **{**self._arguments, **changes})

    def _asked(self, dataset: RadGenomeDataset) -> RadGenomeDataset | RadGenomeVQA:
        """Return a data set, or the questions about it."""
        if self.tasks is None:
            return dataset
        return RadGenomeVQA(dataset, self.tasks, templates=self.templates, answer_key="report", seed=self.seed)
