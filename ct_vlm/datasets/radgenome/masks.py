"""Region masks from their files to a preset's grid, checked against their volume."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ct_vlm.datasets.grids import corner_distance
from ct_vlm.errors import DatasetError
from ct_vlm.transforms import load_label_map, load_volume
from ct_vlm.transforms import orientation as axes
from ct_vlm.transforms.geometry import plan_geometry
from ct_vlm.transforms.nifti import open_nifti
from ct_vlm.transforms.oblique import resample_affine
from ct_vlm.transforms.rules import affine_of
from ct_vlm.transforms.slice_places import slice_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ct_vlm.transforms import CTPreset
    from ct_vlm.transforms.geometry import GeometryPlan
    from ct_vlm.transforms.nifti_header import NiftiHeader
    from ct_vlm.transforms.slice_places import SlicePlaces

MaskMismatch = Literal["error", "resample", "skip"]
MaskMethod = Literal["nearest", "majority"]
_LOG = logging.getLogger(__name__)
_SUFFIXES = (".nii.gz", ".nii")
_TOLERANCE = 0.25  # voxels by which a corner may lie elsewhere, as in the audit (inferred)


def find_masks(folder: Path, members: Iterable[str]) -> dict[str, Path]:
    """Return the mask files that a folder holds, by the name that was asked for.

    A file in another case (``Lung.nii.gz``) is taken where none is spelled as asked.

    Args:
        folder: Folder of one volume's masks; an absent one holds none.
        members: Names of regions or anatomies.

    Raises:
        DatasetError: If the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            files = sorted(entry.name for entry in entries if entry.name.endswith(_SUFFIXES))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        cause = f"Cannot list `{folder}`: {error}."
        raise DatasetError(cause, "Check the permissions and that the disk is mounted.") from error
    stems = {file.removesuffix(".gz").removesuffix(".nii"): file for file in reversed(files)}
    lowered = {stem.lower(): file for stem, file in stems.items()}
    found = {member: stems.get(member) or lowered.get(member.lower()) for member in members}
    return {member: folder / file for member, file in found.items() if file is not None}


@dataclass(frozen=True)
class VolumeGrid:
    """The grid of a volume in a preset's orientation, and what the preset makes of it.

    Args:
        path: The volume.
        shape: Size ``(D, H, W)``.
        affine: Voxel to millimetres.
        is_placed: Whether the file's own affine can be used.
        plan: Geometry of the preset.
        stored_axcodes: Directions of the axes of the file.
    """

    path: Path
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    is_placed: bool
    plan: GeometryPlan
    stored_axcodes: tuple[str, str, str]

    @classmethod
    def of(cls, path: Path, preset: CTPreset, hu_source: str) -> VolumeGrid:
        """Read the grid of a volume; only a preset that cuts to the foreground needs its voxels.

        Args:
            path: The volume.
            preset: Target geometry.
            hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        """
        header = _header(path)
        is_placed = not axes.is_degenerate(header.affine)
        if preset.foreground_hu is not None:
            volume = load_volume(path, hu_source, axcodes=preset.axcodes)
            return cls(path, volume.shape, volume.affine, is_placed, preset.plan(volume), volume.provenance.axcodes)
        affine, _ = affine_of(header, hu_source, None)
        transform = axes.orientation_transform(affine, preset.axcodes)
        moved = axes.reoriented_affine(affine, transform, header.shape)
        order = [int(axis) for axis in transform[:, 0]]
        depth, height, width = (header.shape[order.index(axis)] for axis in range(3))
        plan = plan_geometry((depth, height, width), axes.spacing_of(moved), None, preset.spacing, preset.size)
        return cls(path, (depth, height, width), moved, is_placed, plan, axes.axcodes_of(affine))

    def places(self, preset: CTPreset) -> SlicePlaces:
        """Return where the slices of the preset's grid lie.

        Args:
            preset: The preset that the grid was made with.
        """
        return slice_places(self.plan, self.affine, self.shape, preset.crop_pad, self.stored_axcodes)

    def difference(self, shape: tuple[int, ...], affine: NDArray[np.float64], *, is_placed: bool) -> str:
        """Return how a mask's grid differs from the volume's; empty if it does not.

        Args:
            shape: Of the mask, in the preset's orientation.
            affine: Of the mask, in the preset's orientation.
            is_placed: Whether the mask's own affine can be used.
        """
        if shape != self.shape:
            return f"its shape is {shape} and the volume's {self.shape}"
        if is_placed != self.is_placed:
            return f"the {'volume' if is_placed else 'mask'} has no usable affine"
        away = corner_distance(self.shape, affine, self.affine)
        return f"its corners lie up to {away:.1f} voxels elsewhere" if away > _TOLERANCE else ""


class MaskReader:
    """Brings masks of one volume onto the preset's grid.

    Nothing is made up for a mask: what is missing stays missing, and what cannot be read raises.

    Args:
        grid: The volume's grid.
        preset: Target geometry.
        mismatch: What to do with a mask on another grid: ``error``, ``resample`` it to the volume's
            by both affines and the nearest voxel, or ``skip`` it.
        method: ``nearest`` or ``majority``, see :meth:`ct_vlm.transforms.CTPreset.resample_labels`.
    """

    def __init__(self, grid: VolumeGrid, preset: CTPreset, mismatch: str = "error", method: str = "nearest") -> None:
        self._grid = grid
        self._preset = preset
        self._mismatch = mismatch
        self._method = method

    def union(self, files: Iterable[Path]) -> tuple[NDArray[np.bool_], bool]:
        """Return the union of masks on the preset's grid, and whether any of them could be used.

        Args:
            files: Masks.

        **Shape:**
            - mask: ``(D, H, W)``.
        """
        masks = [mask for mask in map(self.read, files) if mask is not None]
        plan = self._grid.plan
        if not masks:
            return np.zeros(plan.size, dtype=bool), False
        whole = masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)
        result = plan.resample(whole.view(np.uint8), interpolation=self._method, mode=self._preset.crop_pad, value=0)
        return result.astype(bool), True

    def read(self, path: Path) -> NDArray[np.bool_] | None:
        """Return a mask on the volume's own grid; ``None`` if it is skipped.

        Args:
            path: Its file.

        Raises:
            DatasetError: If its grid differs, or it holds several labels.
            VolumeError: If it cannot be read.
        """
        labels, affine = load_label_map(path, axcodes=self._preset.axcodes)
        mask = _binary(labels, path)
        grid = self._grid
        is_placed = not axes.is_degenerate(_header(path).affine)
        difference = grid.difference(mask.shape, affine, is_placed=is_placed)
        if not difference:
            return mask
        if self._mismatch == "skip":
            _LOG.warning("`%s` is left out: %s.", path, difference)
            return None
        cause = f"`{path}` is not on the grid of its volume `{grid.path}`: {difference}."
        if self._mismatch != "resample":
            raise DatasetError(cause, 'Pass `mask_mismatch="resample"` or `"skip"`, or list the volume in `exclude`.')
        if not (is_placed and grid.is_placed):
            raise DatasetError(cause, 'Resampling needs both affines: pass `mask_mismatch="skip"`, or mend the file.')
        _LOG.warning("`%s` is resampled to its volume: %s.", path, difference)
        moved = resample_affine(mask.view(np.uint8), affine, grid.shape, grid.affine, fill=0, order=0)
        return moved.astype(bool)


def pack_masks(masks: list[NDArray[np.bool_]], found: list[bool], places: SlicePlaces) -> dict[str, NDArray[Any]]:
    """Return masks as the arrays of a cache entry: one bit a voxel along the last axis.

    Args:
        masks: One a region.
        found: Whether each could be used.
        places: Where the slices of their grid lie.

    **Shape:**
        - masks: ``(D, H, W)`` each.
    """
    bits = np.stack([np.packbits(mask, axis=-1) for mask in masks])
    return {
        "masks": bits,
        "width": np.array([masks[0].shape[-1]]),
        "found": np.array(found),
        "stored": places.stored,
        "position_mm": places.position_mm,
    }


def unpack_masks(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return ``masks`` (uint8 of 0 and 1) and the rest of what :func:`pack_masks` made.

    Args:
        arrays: The entry, or the arrays just made.

    **Shape:**
        - masks: ``(R, D, H, W)``.
        - found: ``(R,)``.
        - stored, position_mm: ``(D,)``, see :class:`ct_vlm.transforms.slice_places.SlicePlaces`.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.radgenome.masks import pack_masks, unpack_masks
        >>> from ct_vlm.transforms.slice_places import SlicePlaces
        >>> places = SlicePlaces(np.array([0]), np.array([7]), np.array([-35.0]))
        >>> entry = pack_masks([np.eye(3, dtype=bool)[None]], [True], places)
        >>> entry["masks"].nbytes, unpack_masks(entry)["masks"][0, 0].tolist()
        (3, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    """
    width = int(arrays["width"][...][0])
    masks = np.unpackbits(np.asarray(arrays["masks"][...]), axis=-1, count=width)
    return {"masks": masks, **{key: np.asarray(arrays[key][...]) for key in ("found", "stored", "position_mm")}}


def _binary(labels: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """Return where a mask is set; any one value may mean so."""
    mask: NDArray[np.bool_] = labels != 0
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (high > 1 and int(mask.sum()) != int((labels == high).sum())):
        cause = f"`{path}` holds several labels ({low} to {high}), so it is no mask of one region."
        raise DatasetError(cause, "Save one file a region, or list the volume in `exclude`.")
    return mask


def _header(path: Path) -> NiftiHeader:
    """Return what the header of a file says."""
    with open_nifti(path) as stream:
        return stream.header
