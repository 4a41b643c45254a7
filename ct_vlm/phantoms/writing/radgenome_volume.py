"""One volume of a RadGenome-ChestCT tree with its masks: the work of one process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.phantoms.generate import describe_phantom, make_phantom
from ct_vlm.phantoms.streams import stream
from ct_vlm.phantoms.writing.nifti import encode, lps_affine, to_lps, write_bytes
from ct_vlm.phantoms.writing.plan import plan_patient
from ct_vlm.phantoms.writing.radgenome_masks import ANATOMIES, anatomy_mask, organ_map, region_mask
from ct_vlm.phantoms.writing.volume import record_of
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ct_vlm.phantoms.schema import Phantom, PhantomConfig
    from ct_vlm.phantoms.shapes import Array
    from ct_vlm.phantoms.writing.manifest import VolumeRecord
    from ct_vlm.phantoms.writing.plan import VolumePlan

RADGENOME_DEFECTS: dict[str, str] = {
    "mask_shape": "the lung mask has one slice less than its volume",
    "mask_affine": "the lung mask lies three voxels nearer to the head",
    "empty_mask": "the lung mask holds no voxel",
    "mask_labels": "the lung mask holds two labels",
    "truncated_mask": "the gzip stream of the lung mask ends in the middle",
    "missing_mask": "there is no lung mask",
    "missing_folder": "there is no folder of region masks",
    "mask_casing": "the lung mask is called `Lung.nii.gz`",
    "anatomy_casing": "the region reports say `Lung`",
    "nan_sentence": "the sentence of the lung row is blank",
    "duplicate_rows": "every row of the region reports stands there twice",
    "conflicting_rows": "a second lung row says something else",
    "row_without_file": "rows in every table, but no volume and no masks",
    "file_without_row": "a volume with masks, but no row in any table",
}
"""Defect to what is wrong with its volume."""

BROKEN_REGION = "lung"
_RARE = ("breast", "thyroid")
_RARE_SHARE = 0.05  # inferred from the share of reports that mention them


@dataclass(frozen=True)
class RadGenomeJob:
    """What a worker needs to write one volume and its masks.

    Args:
        root: Directory of the tree.
        plan: The volume.
        config: Settings of the generator, with ``resolution_mm`` set.
        masks: Whether to write masks.
    """

    root: Path
    plan: VolumePlan
    config: PhantomConfig
    masks: bool

    @property
    def volume_path(self) -> Path:
        """File of the volume, below a folder ``train_1a`` without the underscore of CT-RATE."""
        plan = self.plan
        patient, _, letter = plan.study.rpartition("_")
        return self.root / f"dataset/{plan.split}_preprocessed" / patient / f"{patient}{letter}" / f"{plan.name}.nii.gz"

    def mask_path(self, level: str, name: str) -> Path:
        """File of a mask.

        Args:
            level: ``region`` or ``anatomy``.
            name: Name of the region or anatomy.
        """
        return self.root / f"dataset/{self.plan.split}_{level}_mask" / f"seg_{self.plan.name}" / f"{name}.nii.gz"

    def mask_names(self) -> dict[Path, tuple[str, str]]:
        """Return the masks to write: file to level and name of what it shows."""
        defect = self.plan.defect
        if not self.masks or defect == "row_without_file":
            return {}
        files = {self.mask_path("anatomy", name): ("anatomy", name) for name in ANATOMIES}
        if defect == "missing_folder":
            return files
        rng = stream(self.plan.seed, "rare masks", self.plan.scan)
        left_out = {region for region in _RARE if rng.random() >= _RARE_SHARE}
        for region in RADGENOME_REGIONS:
            name = region.capitalize() if (defect, region) == ("mask_casing", BROKEN_REGION) else region
            if region not in left_out and (defect, region) != ("missing_mask", BROKEN_REGION):
                files[self.mask_path("region", name)] = ("region", region)
        return files

    def outputs(self) -> list[Path]:
        """Return every file this job writes."""
        return [] if self.plan.defect == "row_without_file" else [self.volume_path, *self.mask_names()]


def radgenome_defects(plans: Sequence[VolumePlan], shape: tuple[int, int, int], seed: int) -> list[VolumePlan]:
    """Return one more training patient for each defect, numbered after the sound ones."""
    last = max(plan.patient for plan in plans if plan.split == "train")
    return [
        replace(plan_patient("train", last + 1 + index, shape, seed, 0, 0)[0], defect=defect)
        for index, defect in enumerate(RADGENOME_DEFECTS)
    ]


def write_radgenome_volume(job: RadGenomeJob) -> VolumeRecord:
    """Write the files of a job that do not exist yet and return its facts."""
    plan = job.plan
    missing = [path for path in job.outputs() if not path.exists()]
    if not missing:
        return record_of(plan, job.config, describe_phantom(plan.seed, plan.shape, scan=plan.scan, config=job.config))
    phantom = make_phantom(plan.seed, plan.shape, scan=plan.scan, recon=plan.recon, config=job.config)
    affine = lps_affine(plan.shape, phantom.spacing)
    if job.volume_path in missing:
        write_bytes(job.volume_path, encode(to_lps(phantom.volume), affine))
    masks = {path: what for path, what in job.mask_names().items() if path in missing}
    if masks:
        _write_masks(job, phantom, masks, affine)
    return record_of(plan, job.config, phantom)


def _write_masks(job: RadGenomeJob, phantom: Phantom, masks: dict[Path, tuple[str, str]], affine: Array) -> None:
    """Write masks of a phantom."""
    # the same anatomy without findings tells which lobe a lesion lies in
    healthy = make_phantom(job.plan.seed, job.plan.shape, scan=job.plan.scan, labels=[], config=job.config)
    organs = organ_map(phantom.segmentation, healthy.segmentation)
    for path, (level, name) in masks.items():
        mask = anatomy_mask(name, organs) if level == "anatomy" else region_mask(name, organs, phantom.segmentation)
        is_broken = (level, name) == ("region", BROKEN_REGION)
        write_bytes(path, _content(mask.astype(np.uint8), affine, job.plan.defect if is_broken else None))


def _content(mask: Array, affine: Array, defect: str | None) -> bytes:
    """Return the bytes of a mask file."""
    stored: Any = to_lps(mask)
    if defect == "mask_shape":
        stored = stored[:, :, :-1]
    elif defect == "mask_affine":
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1.0]])
    elif defect == "empty_mask":
        stored = np.zeros_like(stored)
    elif defect == "mask_labels":
        stored = stored * (1 + (np.arange(stored.shape[2]) % 2)).astype(np.uint8)
    content = encode(stored, affine)
    return content[: len(content) // 2] if defect == "truncated_mask" else content
