"""From a file to HU on a preset's grid in one pass, without ever holding the stored volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import HUError
from ct_vlm.transforms import orientation as axes
from ct_vlm.transforms.geometry import plan_geometry
from ct_vlm.transforms.hu import AIR_HU, Rescale, judge, padding_repair, resolve_hu_source
from ct_vlm.transforms.hu_statistics import PADDING_HU, HUSampler
from ct_vlm.transforms.load import load_volume
from ct_vlm.transforms.metadata import ScanMetadata, find_metadata
from ct_vlm.transforms.nifti import NiftiStream, open_nifti
from ct_vlm.transforms.oblique import check_oblique, is_resampled
from ct_vlm.transforms.presets import CTPreset, get_preset
from ct_vlm.transforms.resample import check_out
from ct_vlm.transforms.rules import affine_of, rescale_of
from ct_vlm.transforms.slabs import SlabResampler, one_thread
from ct_vlm.transforms.volume import Provenance, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def load_on_grid(
    path: str | Path,
    preset: str | CTPreset | Mapping[str, Any],
    hu_source: str = "auto",
    *,
    metadata: Mapping[str, Any] | str | Path | None = None,
    check: bool = True,
    oblique: str = "nearest",
    out: NDArray[np.int16] | None = None,
) -> Volume:
    """Read a CT volume as int16 HU on a preset's grid.

    Slices are decoded, rescaled, judged and resampled as they arrive, so that memory holds the
    result and a few slices, never the stored volume. The result is what
    ``preset.resample(load_volume(path, axcodes=preset.axcodes))`` gives, within 1 HU: weights are
    applied in the file's axis order, so a value halfway between two integers may go the other way.
    HU rules, repairs and errors are those of :func:`ct_vlm.transforms.load_volume`.

    Three kinds of input are read in one piece instead: presets with ``foreground_hu``, whose box is
    known only at the end; oblique files with ``oblique="resample"``; and values that are refused, to
    say why. A file whose padding shows only after noise below -1024 HU is read twice.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file; never modified.
        preset: Name, preset, or its config.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        metadata: A row of the CT-RATE metadata table, or the path of that table.
        check: Refuse values that are no HU.
        oblique: ``nearest`` or ``resample``, as in :func:`ct_vlm.transforms.load_volume`.
        out: Memory for the result, int16 and C-contiguous, of the result's size; used again from
            volume to volume it saves the system the work of clearing fresh memory.

    Returns:
        The volume; ``spacing`` and ``affine`` are those of the grid.

    Raises:
        VolumeReadError: If the file is no readable NIfTI volume.
        VolumeGeometryError: If it is not 3-D or has no usable spacing or orientation.
        HUError: If its values are no HU.
        DatasetError: If the metadata cannot be read.
        ConfigError: If an argument is none of its choices.
        ShapeError: If ``out`` has another size or type.

    Example:
        >>> import tempfile, pathlib, numpy as np, nibabel as nib
        >>> from ct_vlm.transforms import CTPreset, load_on_grid
        >>> body = np.tile(np.array([-1000, -850, 40, 300], np.int16), (4, 4, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "scan.nii.gz")
        ...     nib.save(nib.Nifti1Image(body, np.diag([-1.0, -1.0, 5.0, 1.0])), file)
        ...     volume = load_on_grid(file, CTPreset("half", size=(2, 2, 2)))
        >>> volume.spacing, volume.array[:, 0, 0].tolist()
        ((10.0, 2.0, 2.0), [170, -925])
    """
    chosen = get_preset(preset)
    row = find_metadata(metadata, Path(path))
    source = resolve_hu_source(path, hu_source, row)
    check_oblique(oblique)
    options: dict[str, Any] = {"metadata": metadata, "axcodes": chosen.axcodes, "check": check, "oblique": oblique}
    if chosen.foreground_hu is None and not _has_to_turn(Path(path), source, row, oblique):
        try:
            return _streamed(Path(path), chosen, source, row, check=check, out=out)
        except HUError:
            load_volume(path, hu_source, **options)  # says more
            raise
    return _whole(load_volume(path, hu_source, **options), chosen, out)


def _has_to_turn(path: Path, source: str, row: ScanMetadata | None, oblique: str) -> bool:
    """Tell whether a file has to be resampled along the body's axes first."""
    if oblique != "resample":
        return False
    with open_nifti(path) as stream:
        return is_resampled(affine_of(stream.header, source, row, oblique)[0], oblique)


def _whole(volume: Volume, preset: CTPreset, out: NDArray[np.int16] | None) -> Volume:
    """Return a loaded volume on the grid."""
    plan = preset.plan(volume)
    array = np.ascontiguousarray(preset.resample(volume))  # of a box, a view that would keep the whole volume
    if out is not None:
        check_out(out, array.shape)
        np.copyto(out, array)
        array = out
    affine = plan.affine(volume.affine, volume.shape, preset.crop_pad)
    return Volume(array, plan.spacing, affine, volume.provenance, volume.axcodes)


def _streamed(
    path: Path, preset: CTPreset, source: str, row: ScanMetadata | None, *, check: bool, out: NDArray[np.int16] | None
) -> Volume:
    """Read a file in one pass, or in two if padding shows late."""
    for clip in (False, True):
        with open_nifti(path) as stream, one_thread():
            grid = _Grid(stream, preset, source, row, out)
            values = _HUSlices(stream, grid.scale, clip=clip)
            if values.feed(grid.resampler):
                repairs = values.finish(check=check)
                return grid.volume(repairs)
    cause = f"`{path}` changed while it was read."
    raise HUError(cause, "Read it again when nothing writes to it.")


class _Grid:
    """Where the slices of a file go on a preset's grid.

    Args:
        stream: The open file.
        preset: Target geometry.
        source: HU rule.
        row: Metadata of the volume.
        out: Memory for the result.
    """

    def __init__(
        self,
        stream: NiftiStream,
        preset: CTPreset,
        source: str,
        row: ScanMetadata | None,
        out: NDArray[np.int16] | None,
    ) -> None:
        self._header, self._preset, self._source = stream.header, preset, source
        self._affine, self._repairs = affine_of(stream.header, source, row)
        self.scale = rescale_of(stream.header, source, row)
        transform = axes.orientation_transform(self._affine, preset.axcodes)
        self._moved = axes.reoriented_affine(self._affine, transform, stream.header.shape)
        order = [int(axis) for axis in transform[:, 0]]
        shape = tuple(stream.header.shape[order.index(axis)] for axis in range(3))
        self._shape = (shape[0], shape[1], shape[2])
        self._plan = plan_geometry(self._shape, axes.spacing_of(self._moved), None, preset.spacing, preset.size)
        if out is not None:
            check_out(out, self._plan.size)
        self._array, inside = self._plan.frame(preset.crop_pad, preset.pad_hu, out)
        windows = self._plan.windows(self._shape, preset.crop_pad)
        x, y, z = (
            windows[axis] if sign > 0 else windows[axis].mirrored()
            for axis, sign in zip(order, transform[:, 1], strict=True)
        )
        flips = tuple(slice(None, None, int(sign)) for sign in transform[:, 1])
        target = inside.transpose(order)[flips].T
        self.resampler = SlabResampler((z, y, x), preset.interpolation, target)

    def volume(self, repairs: tuple[str, ...]) -> Volume:
        """Return the result, once every slice was pushed."""
        slope, intercept = self.scale
        provenance = Provenance(
            path=str(self._header.path),
            hu_source=self._source,
            slope=slope,
            intercept=intercept,
            axcodes=axes.axcodes_of(self._affine),
            shape=self._header.shape,
            repairs=(*self._header.repairs, *self._repairs, *repairs),
        )
        affine = self._plan.affine(self._moved, self._shape, self._preset.crop_pad)
        return Volume(self._array, self._plan.spacing, affine, provenance, self._preset.axcodes)


class _HUSlices:
    """Turns stored slices into HU, gathers what the guard needs, and sets padding to air.

    Args:
        stream: The open file.
        scale: Slope and intercept.
        clip: Set everything below -1024 HU to it from the first slice on.
    """

    def __init__(self, stream: NiftiStream, scale: tuple[float, float], *, clip: bool) -> None:
        header = stream.header
        self._stream = stream
        self._rescale = Rescale(header.dtype, *scale, header.path)
        self._sampler = HUSampler(header.shape[::-1])
        self._clips, self._passed_low, self._padded = clip, False, 0

    def feed(self, resampler: SlabResampler) -> bool:
        """Push every slice; ``False`` if the pass has to start again with ``clip``."""
        width, height, _ = self._stream.header.shape
        buffer = None if self._rescale.is_identity else np.empty((height, width), dtype=np.int16)
        for stored in self._stream.slices():
            hu = stored
            if buffer is not None:
                self._rescale(stored, buffer)
                hu = buffer
            lowest, highest = self._sampler.add(hu)
            if lowest < AIR_HU and not self._clip(hu, lowest):
                return False
            resampler.push(hu, (max(lowest, AIR_HU) if self._clips else lowest, max(highest, AIR_HU)))
        return True

    def finish(self, *, check: bool) -> tuple[str, ...]:
        """Return what had to be repaired, after the guard has passed the values.

        Raises:
            HUError: If the values are no HU.
        """
        changes = self._rescale.finish()
        if check:
            judge(self._sampler.statistics(), self._stream.header.path)
        return (*changes, *(padding_repair(self._padded) if self._clips else ()))

    def _clip(self, hu: NDArray[np.int16], lowest: int) -> bool:
        """Set padding to air; ``False`` if slices that had to be clipped too have passed already."""
        self._clips = self._clips or lowest < PADDING_HU
        if self._clips and self._passed_low:
            return False
        if self._clips:
            self._padded += int((hu < AIR_HU).sum())
            np.maximum(hu, np.int16(AIR_HU), out=hu)
        else:
            self._passed_low = True
        return True
