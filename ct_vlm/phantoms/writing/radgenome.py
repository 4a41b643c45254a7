"""A tree of phantoms in the exact layout of RadGenome-ChestCT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.phantoms.schema import PhantomConfig
from ct_vlm.phantoms.writing.plan import plan_volumes
from ct_vlm.phantoms.writing.radgenome_tables import write_radgenome_tables
from ct_vlm.phantoms.writing.radgenome_volume import RadGenomeJob, radgenome_defects, write_radgenome_volume
from ct_vlm.phantoms.writing.running import open_tree, run_jobs

if TYPE_CHECKING:
    from ct_vlm.phantoms.writing.manifest import PhantomManifest

LAYOUT = "radgenome"


def write_radgenome(
    root: str | Path,
    count: int,
    *,
    shape: tuple[int, int, int] = (64, 64, 64),
    seed: int = 0,
    valid_fraction: float = 0.15,
    second_scan: float = 0.15,
    defects: bool = False,
    masks: bool = True,
    workers: int | None = None,
    progress: bool = True,
    config: PhantomConfig | None = None,
) -> PhantomManifest:
    """Write phantoms as a RadGenome-ChestCT download would look unpacked, and ``phantoms.json`` with all facts.

    One reconstruction a scan: int16 HU in ``dataset/{train,valid}_preprocessed``; masks of regions in
    ``{split}_region_mask/seg_{volume}/{region}.nii.gz`` and of lobes and organs in
    ``{split}_anatomy_mask``; twelve tables in ``radgenome_files``. Masks of breast and thyroid are
    mostly absent, masks may overlap, and those of organs outside the field of view are empty.
    CT-RATE's label tables, which RadGenome-ChestCT does not hold, lie in ``labels`` beside ``dataset``.

    Inferred: that volumes are stored as in CT-RATE v2 (axes L, P, S), what the pleura covers, and the
    names of anatomies other than lobes. Archives, pickles and question templates are not written.

    Running the same call again completes an interrupted tree and otherwise changes nothing.

    Args:
        root: Directory of the tree; made if absent.
        count: Number of volumes in both splits together, without the defective ones.
        shape: Grid (D, H, W).
        seed: Seed of the tree.
        valid_fraction: Share of the volumes in the validation split.
        second_scan: Share of patients with two scans.
        defects: Add one training patient for each entry of ``RADGENOME_DEFECTS``.
        masks: Write masks.
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
        >>> from pathlib import Path
        >>> from ct_vlm.phantoms import write_radgenome
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = write_radgenome(folder, 2, shape=(8, 12, 12), workers=0)
        ...     masks = Path(folder, "dataset/train_region_mask/seg_train_1_a_1")
        ...     (masks / "trachea and bronchie.nii.gz").exists()
        True

    References:
        RadGenome-ChestCT, https://huggingface.co/datasets/RadGenome/RadGenome-ChestCT
    """
    settings = config or PhantomConfig()
    plans = plan_volumes(count, shape, seed, valid_fraction=valid_fraction, second_scan=second_scan, second_recon=0.0)
    if defects:
        plans.extend(radgenome_defects(plans, shape, seed))
    if settings.resolution_mm is None:
        settings = replace(settings, resolution_mm=max(settings.fov_mm[1] / shape[1], settings.fov_mm[2] / shape[2]))
    arguments = {
        "count": count,
        "shape": list(shape),
        "seed": seed,
        "valid_fraction": valid_fraction,
        "second_scan": second_scan,
        "defects": defects,
        "masks": masks,
        "config": settings.to_config(),
    }
    manifest = open_tree(Path(root), LAYOUT, arguments)
    jobs = [RadGenomeJob(manifest.root, plan, settings, masks) for plan in plans]
    if manifest.complete and all(path.exists() for job in jobs for path in job.outputs()):
        return manifest
    records = run_jobs(jobs, write_radgenome_volume, workers, progress)
    write_radgenome_tables(manifest.root, records)
    manifest.volumes = records
    manifest.defects = {plan.name: plan.defect for plan in plans if plan.defect}
    manifest.complete = True
    manifest.save()
    return manifest
