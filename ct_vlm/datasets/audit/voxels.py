"""Decode volumes and masks, and judge their values: the work of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.errors import HUError, VolumeError
from ct_vlm.transforms.hu import check_hu, to_hu
from ct_vlm.transforms.nifti import read_nifti

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

Problems = list[tuple[str, str]]
MAX_BYTES = 6 * 2**30
"""Files that claim more voxels are not decoded (a 1024 x 1024 x 2047 CT of int16 takes 4 GiB)."""


class VoxelJob(NamedTuple):
    """A file to decode.

    Args:
        path: The file.
        claimed: Bytes of voxels that its header promises.
        is_mask: Whether it is a region mask.
        slope: Factor to HU, or ``None`` if no rule is known.
        intercept: HU added after the factor.
    """

    path: str
    claimed: int
    is_mask: bool = False
    slope: float | None = 1.0
    intercept: float = 0.0


def check_voxels(job: VoxelJob) -> Problems:
    """Return what is wrong with the voxels of a file, as codes and details; nothing is raised.

    Args:
        job: The file, and how its values become HU.
    """
    if job.claimed > MAX_BYTES:
        return [("voxels.skipped", f"{job.claimed:,} bytes")]
    try:
        stored = read_nifti(job.path).stored
    except VolumeError as error:
        return [("voxels.damaged", error.cause)]
    except MemoryError:
        return [("voxels.skipped", "not enough memory")]
    return _mask_problems(stored) if job.is_mask else _hu_problems(stored, job)


def worker_died(job: VoxelJob) -> Problems:
    """Return the finding about a file whose process died."""
    return [("voxels.worker_died", "mask" if job.is_mask else "volume")]


def _hu_problems(stored: NDArray[Any], job: VoxelJob) -> Problems:
    """Return what is wrong with a volume's values, once they are HU."""
    if stored.min() == stored.max():
        return [("voxels.constant", f"{stored.flat[0]}")]
    if job.slope is None:
        return []
    try:
        check_hu(to_hu(stored, job.slope, job.intercept, "It")[0], "It")
    except HUError as error:
        return [("voxels.not_hu", str(error).removeprefix("`It` "))]
    except MemoryError:
        return [("voxels.skipped", "not enough memory")]
    return []


def _mask_problems(stored: NDArray[Any]) -> Problems:
    """Return what is wrong with a mask's values."""
    if not stored.any():
        return [("voxels.empty_mask", "")]
    wrong = stored[(stored != 0) & (stored != 1)]
    return [("voxels.mask_values", f"{wrong.size:,} voxels, e.g. {wrong[0]}")] if wrong.size else []
