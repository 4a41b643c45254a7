"""Making and writing one volume: the work of one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.generate import describe_phantom, make_phantom
from ct_vlm.phantoms.writing.defects import DAMAGED, damage, head_phantom
from ct_vlm.phantoms.writing.manifest import VolumeRecord
from ct_vlm.phantoms.writing.nifti import encode, lps_affine, to_lps, write_bytes
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.phantoms.schema import Phantom, PhantomConfig, PhantomFacts
    from ct_vlm.phantoms.writing.plan import VolumePlan


@dataclass(frozen=True)
class VolumeJob:
    """What a worker needs to write one volume.

    Args:
        root: Directory of the tree.
        plan: The volume.
        config: Settings of the generator, with ``resolution_mm`` set.
        masks: Whether to write the label map.
        raw: Whether to write the v1 twin with stored values.
    """

    root: Path
    plan: VolumePlan
    config: PhantomConfig
    masks: bool
    raw: bool

    @property
    def fixed_path(self) -> Path:
        """File of the v2 volume (HU)."""
        plan = self.plan
        return self.root / "dataset" / f"{plan.split}_fixed" / plan.folder / f"{plan.name}.nii.gz"

    @property
    def raw_path(self) -> Path:
        """File of the v1 volume (stored values)."""
        plan = self.plan
        return self.root / "dataset" / plan.split / plan.folder / f"{plan.name}.nii.gz"

    @property
    def mask_path(self) -> Path:
        """File of the label map, in nnU-Net's folder for training or test cases."""
        folder = "labelsTr" if self.plan.split == "train" else "labelsTs"
        return self.root / "segmentation" / folder / f"{self.plan.name}.nii.gz"

    def outputs(self) -> list[Path]:
        """Return every file this job writes."""
        defect = self.plan.defect
        if defect == "row_without_file":
            return []
        paths = [self.fixed_path]
        if self.raw and defect in {None, "nan_zspacing", "not_given", "nan_text"}:
            paths.append(self.raw_path)
        if self.masks and defect is None:
            paths.append(self.mask_path)
        return paths


def write_volume(job: VolumeJob) -> VolumeRecord:
    """Write the files of a job that do not exist yet and return its facts.

    A volume that is already on disk is described without drawing it again.
    """
    missing = [path for path in job.outputs() if not path.exists()]
    plan = job.plan
    if not missing:
        return record_of(plan, job.config, describe_phantom(plan.seed, plan.shape, scan=plan.scan, config=job.config))
    phantom = make_phantom(plan.seed, plan.shape, scan=plan.scan, recon=plan.recon, config=job.config)
    if plan.defect == "head_ct":
        phantom = head_phantom(phantom)
    for path in missing:
        write_bytes(path, _content(job, phantom, path))
    return record_of(plan, job.config, phantom)


def _content(job: VolumeJob, phantom: Phantom, path: Path) -> bytes:
    """Return the bytes of one file."""
    plan = job.plan
    affine = lps_affine(plan.shape, phantom.spacing)
    if path == job.mask_path:
        return encode(to_lps(phantom.segmentation), affine)
    if path == job.raw_path:
        # v1 headers carry neither spacing, orientation nor rescaling
        return encode(to_lps(phantom.volume) - np.int16(plan.intercept), np.eye(4))
    if plan.defect in DAMAGED:
        return damage(plan.defect, phantom.volume, phantom.spacing)
    return encode(to_lps(phantom.volume), affine)


def record_of(plan: VolumePlan, config: PhantomConfig, phantom: PhantomFacts) -> VolumeRecord:
    """Return the facts of a volume as JSON values; a head shows none of them.

    Args:
        plan: The volume.
        config: Settings of the generator.
        phantom: Its facts.
    """
    fov = config.fov_mm
    head = plan.defect == "head_ct"
    findings = [] if head else [finding.to_json() for finding in phantom.findings]
    for finding in findings:
        del finding["bbox"]
    return VolumeRecord(
        name=plan.name,
        split=plan.split,
        seed=plan.seed,
        scan=plan.scan,
        recon=plan.recon,
        shape=plan.shape,
        spacing=(fov[0] / plan.shape[0], fov[1] / plan.shape[1], fov[2] / plan.shape[2]),
        sex=phantom.sex,
        age=phantom.age,
        labels=[] if head else [name for name, on in zip(CT_RATE_LABELS, phantom.labels, strict=True) if on],
        findings=findings,
        findings_text="No pathology in the brain parenchyma." if head else phantom.findings_text,
        impressions_text="Normal cranial CT." if head else phantom.impressions_text,
        region_reports={} if head else phantom.region_reports,
        defect=plan.defect,
    )
