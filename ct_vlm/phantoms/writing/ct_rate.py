"""A tree of phantoms in the exact layout of CT-RATE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.files import write_json
from ct_vlm.phantoms.schema import SEGMENTATION_CLASSES, PhantomConfig
from ct_vlm.phantoms.writing.defects import defective_plans
from ct_vlm.phantoms.writing.plan import plan_volumes
from ct_vlm.phantoms.writing.running import open_tree, run_jobs
from ct_vlm.phantoms.writing.tables import write_tables
from ct_vlm.phantoms.writing.volume import VolumeJob, write_volume

if TYPE_CHECKING:
    from ct_vlm.phantoms.writing.manifest import PhantomManifest

LAYOUT = "ct_rate"


def write_ct_rate(
    root: str | Path,
    count: int,
    *,
    shape: tuple[int, int, int] = (64, 64, 64),
    seed: int = 0,
    valid_fraction: float = 0.15,
    second_scan: float = 0.15,
    second_recon: float = 0.25,
    defects: bool = False,
    masks: bool = True,
    workers: int | None = None,
    progress: bool = True,
    config: PhantomConfig | None = None,
) -> PhantomManifest:
    """Write phantoms as a CT-RATE download would look, and ``phantoms.json`` with all facts.

    Volumes are int16 HU in ``dataset/{train,valid}_fixed`` (v2); the metadata's rescale values
    belong to the stored values of v1 and must not be applied to them, as in CT-RATE. Label maps go to
    ``segmentation/labelsTr`` (training) and ``labelsTs`` with an nnU-Net style ``dataset.json``.

    Running the same call again completes an interrupted tree and otherwise changes nothing.

    Args:
        root: Directory of the tree; made if absent.
        count: Number of volumes in both splits together, without the defective ones.
        shape: Grid (D, H, W) of a scan's first reconstruction; the second has fewer slices.
        seed: Seed of the tree.
        valid_fraction: Share of the volumes in the validation split.
        second_scan: Share of patients with two scans.
        second_recon: Share of scans with two reconstructions.
        defects: Add one patient for each entry of ``DEFECTS``, and v1 twins of the sound volumes.
        masks: Write label maps.
        workers: Number of processes; 0 works in this process, None takes one a core.
        progress: Show a progress bar on a terminal.
        config: Settings of the generator.

    Returns:
        The manifest.

    Raises:
        DatasetError: If the directory holds something else, or phantoms of other arguments.
        ConfigError: If an argument is out of range.

    Example:
        >>> import tempfile
        >>> from ct_vlm.phantoms import write_ct_rate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = write_ct_rate(folder, 3, shape=(8, 12, 12), workers=0)
        >>> manifest.volumes[0].name, manifest.volumes[-1].split
        ('train_1_a_1', 'valid')
    """
    settings = config or PhantomConfig()
    plans = plan_volumes(
        count, shape, seed, valid_fraction=valid_fraction, second_scan=second_scan, second_recon=second_recon
    )
    if defects:
        plans.extend(defective_plans(plans, shape, seed))
    if settings.resolution_mm is None:
        # reconstructions of one scan share a report, so the sizes it states must not follow the grid
        settings = replace(settings, resolution_mm=max(settings.fov_mm[1] / shape[1], settings.fov_mm[2] / shape[2]))
    arguments = {
        "count": count,
        "shape": list(shape),
        "seed": seed,
        "valid_fraction": valid_fraction,
        "second_scan": second_scan,
        "second_recon": second_recon,
        "defects": defects,
        "masks": masks,
        "config": settings.to_config(),
    }
    manifest = open_tree(Path(root), LAYOUT, arguments)
    jobs = [VolumeJob(manifest.root, plan, settings, masks, defects) for plan in plans]
    if manifest.complete and all(path.exists() for job in jobs for path in job.outputs()):
        return manifest
    records = run_jobs(jobs, write_volume, workers, progress)
    dataset = manifest.root / "dataset"
    (dataset / "metadata").mkdir(parents=True, exist_ok=True)
    write_tables(dataset, plans, records)
    if masks:
        _write_mask_index(manifest.root, jobs)
    manifest.volumes = records
    manifest.defects = {plan.name: plan.defect for plan in plans if plan.defect}
    manifest.complete = True
    manifest.save()
    return manifest


def _write_mask_index(root: Path, jobs: list[VolumeJob]) -> None:
    """Write the nnU-Net style description of the label maps."""
    masked = [job for job in jobs if job.plan.split == "train" and job.mask_path in job.outputs()]
    index = {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(SEGMENTATION_CLASSES)},
        "numTraining": len(masked),
        "file_ending": ".nii.gz",
    }
    folder = root / "segmentation"
    folder.mkdir(exist_ok=True)
    write_json(folder / "dataset.json", index)
