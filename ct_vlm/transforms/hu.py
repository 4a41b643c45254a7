"""Stored values to Hounsfield units, and the guard that refuses values that are none."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ct_vlm.errors import ConfigError, HUError
from ct_vlm.transforms.hu_statistics import PADDING_HU, HUStatistics, hu_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ct_vlm.transforms.metadata import ScanMetadata

HUSource = Literal["auto", "fixed", "csv", "header", "none"]
AIR_HU = -1024
"""The lowest value of a CT scale; padding below it is set to this."""


def resolve_hu_source(path: str | Path, hu_source: str, metadata: ScanMetadata | None) -> str:
    """Turn ``auto`` into the rule that a path and its metadata call for.

    Files under ``*_fixed`` (CT-RATE v2) and ``*_preprocessed`` (RadGenome-ChestCT) hold HU already.
    Other files take the metadata row if there is one (CT-RATE v1, whose headers are wrong), and
    else the header.

    Args:
        path: The volume.
        hu_source: ``auto``, ``fixed``, ``csv``, ``header`` or ``none``.
        metadata: The volume's row, if known.

    Raises:
        ConfigError: If the rule is unknown.
        HUError: If ``csv`` is asked for and no slope and intercept are known.

    Example:
        >>> from ct_vlm.transforms.hu import resolve_hu_source
        >>> resolve_hu_source("dataset/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz", "auto", None)
        'fixed'
    """
    if hu_source not in get_args(HUSource):
        cause = f"Expected `hu_source` to be one of {', '.join(get_args(HUSource))}, but got {hu_source!r}."
        raise ConfigError(cause, "Use 'auto' unless the file lies outside the published folders.")
    folders = PurePath(path).parts[:-1]
    if hu_source == "auto" and any(part.endswith(("_fixed", "_preprocessed")) for part in folders):
        return "fixed"
    has_rescale = metadata is not None and metadata.slope is not None and metadata.intercept is not None
    if hu_source == "auto":
        return "csv" if has_rescale else "header"
    if hu_source == "csv" and not has_rescale:
        cause = f"No RescaleSlope and RescaleIntercept are known for `{path}`."
        raise HUError(cause, "Pass `metadata=` with the table that lists this volume, or another `hu_source`.")
    return hu_source


def to_hu(
    stored: NDArray[Any], slope: float, intercept: float, path: object
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Rescale stored values to int16 HU, slice by slice.

    Values are rounded to the nearest HU and held to the int16 range. An int16 array that needs no
    rescale is returned as it is.

    Args:
        stored: Values as stored, ``(x, y, z)``.
        slope: Factor.
        intercept: HU added after the factor.
        path: Named in errors.

    Returns:
        HU in the same axis order, and what had to be changed.

    Raises:
        HUError: If a value is NaN or infinite.
    """
    rescale = Rescale(stored.dtype, slope, intercept, path)
    if rescale.is_identity:
        return stored, ()
    hu = np.empty(stored.T.shape, dtype=np.int16)
    for source, target in zip(stored.T, hu, strict=True):  # z is the slowest axis of the file
        rescale(source, target)
    return hu.T, rescale.finish()


class Rescale:
    """Turns slices of stored values into int16 HU and keeps count of what did not fit.

    Args:
        dtype: Stored type.
        slope: Factor.
        intercept: HU added after the factor.
        path: Named in errors.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.hu import Rescale
        >>> rescale = Rescale(np.dtype("uint16"), 1.0, -1024.0, "scan.nii.gz")
        >>> hu = np.empty((1, 3), np.int16)
        >>> rescale(np.array([[0, 1064, 65535]], np.uint16), hu)
        >>> hu.tolist(), rescale.finish()
        ([[-1024, 40, 32767]], ('held 1 values to the int16 range',))
    """

    def __init__(self, dtype: np.dtype[Any], slope: float, intercept: float, path: object) -> None:
        self.is_identity = dtype == np.int16 and slope == 1 and intercept == 0
        is_whole = slope == 1 and float(intercept).is_integer() and abs(intercept) < 2**30
        self._type = np.int32 if is_whole and dtype.kind in "iu" and dtype.itemsize <= 2 else np.float64
        self._slope, self._intercept, self._path = slope, intercept, path
        self._voxels = self._clipped = self._missing = 0

    def __call__(self, source: NDArray[Any], target: NDArray[np.int16]) -> None:
        """Write the HU of a slice.

        Args:
            source: Stored values.
            target: Where HU go.
        """
        self._voxels += source.size
        values = self._rescaled(source)
        if values.min() < -32768 or values.max() > 32767:
            self._clipped += int(((values < -32768) | (values > 32767)).sum())
            np.clip(values, -32768, 32767, out=values)
        target[...] = values

    @np.errstate(invalid="ignore", over="ignore")  # what is not finite is counted
    def _rescaled(self, source: NDArray[Any]) -> NDArray[Any]:
        """Return whole numbers of HU, 0 and a count where there is none."""
        values: NDArray[Any] = source.astype(self._type)
        if self._type is np.int32:
            values += np.int32(self._intercept)
        else:
            values *= self._slope
            values += self._intercept
            np.rint(values, out=values)
            finite = np.isfinite(values)
            if not finite.all():
                self._missing += int((~finite).sum())
                values[~finite] = 0.0
        return values

    def finish(self) -> tuple[str, ...]:
        """Return what had to be changed.

        Raises:
            HUError: If a value was NaN or infinite.
        """
        if self._missing:
            amount = "all" if self._missing == self._voxels else f"{self._missing:,} of {self._voxels:,}"
            cause = f"`{self._path}` holds NaN or infinite values: {amount} voxels."
            raise HUError(cause, "Export the scan again; ct_vlm does not invent voxels.")
        return (f"held {self._clipped:,} values to the int16 range",) if self._clipped else ()


def check_hu(array: NDArray[np.int16], path: object = "volume") -> HUStatistics:
    """Raise unless the values look like Hounsfield units.

    The guard knows the ways in which CT data goes wrong: values that were never rescaled, rescaled
    twice, multiplied by a wrong slope or by -1, or scaled for a network. Scanner padding outside
    the field of view (a value such as -2000, -3024 or -8192) is one value, but for the edges that
    resampling blurs; a wrong rescale leaves the noise of air and lung below the scale too. A small
    crop of one tissue can hide a wrong rescale, so check whole scans.

    Args:
        array: HU candidates.
        path: Named in errors.

    Returns:
        The statistics that were judged.

    Raises:
        HUError: With the diagnosis and the values that led to it.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms import check_hu
        >>> body = np.array([[[-1000, -850, 40, 300]]], np.int16).repeat(8, axis=1)
        >>> check_hu(body).minimum
        -1000
        >>> check_hu(body - 1024)
        Traceback (most recent call last):
        ...
        ct_vlm.errors.HUError: `volume` was rescaled twice ...
    """
    return judge(hu_statistics(array), path)


def judge(stats: HUStatistics, path: object) -> HUStatistics:
    """Raise unless statistics look like those of Hounsfield units; see :func:`check_hu`.

    Args:
        stats: What was measured.
        path: Named in errors.

    Raises:
        HUError: With the diagnosis and the values that led to it.
    """
    figures = (
        f"(min {stats.minimum}, p1 {stats.p1:.0f}, median {stats.p50:.0f}, p95 {stats.p95:.0f}, max {stats.maximum})"
    )
    diagnosis = _diagnose(stats)
    if diagnosis is not None:
        cause, cure = diagnosis
        message = f"`{path}` {cause} {figures}."
        raise HUError(message, cure)
    return stats


def _diagnose(stats: HUStatistics) -> tuple[str, str] | None:
    """Return what is wrong and what to do, or ``None``; the first rule that applies wins."""
    return next(((cause, cure) for applies, cause, cure in _format_rules(stats) if applies), None) or next(
        ((cause, cure) for applies, cause, cure in _rescale_rules(stats) if applies), None
    )


def _format_rules(stats: HUStatistics) -> tuple[tuple[bool, str, str], ...]:
    """Return the rules about values that hold no scan or were prepared for something else."""
    return (
        (stats.minimum == stats.maximum, "is constant", "Check that the file holds a scan."),
        (
            max(abs(stats.minimum), abs(stats.maximum)) <= 2,
            "was normalised (HU divided by 1000, or windowed)",
            "Use the scan before normalisation.",
        ),
        (
            stats.minimum >= 0 and 250 <= stats.maximum <= 255,
            "holds 8-bit grey values, not HU",
            "Use the scan before windowing.",
        ),
        (
            stats.low_share > 0.9 and stats.stray_share <= 0.05,
            "holds almost nothing but padding",
            "Check that the file holds a scan.",
        ),
    )


def _rescale_rules(stats: HUStatistics) -> tuple[tuple[bool, str, str], ...]:
    """Return the rules about slope and intercept."""
    # without lung in view, a second rescale puts fat near -1124 and the rest where air and lung lie
    tissue_as_air = stats.p1 < -1100 and stats.p50 < -800 and stats.tissue_share < 0.02
    return (
        (
            tissue_as_air or (stats.stray_share > 0.05 and stats.p95 < -300),
            "was rescaled twice",
            'Its stored values are HU already: use `hu_source="fixed"`, and apply no slope and intercept again.',
        ),
        (
            stats.stray_share > 0.05,
            f"holds many different values below {PADDING_HU} HU, so it was rescaled with a wrong slope",
            "Check slope and intercept; values are HU where air is near -1000 and water near 0.",
        ),
        (
            stats.mirror_share > 0.2 and stats.lung_share < 0.02 and stats.p5 < -20,
            "has its sign inverted (lung and air lie near +900, bone lies below 0)",
            "Multiply the values by -1, or check the sign of the slope.",
        ),
        (
            stats.p50 > 500 or (stats.p1 > -200 and stats.raw_share > 0.05),
            "was not rescaled to HU",
            "Pass `metadata=` (a row or the path of the metadata table), so that slope and intercept are applied.",
        ),
    )


def clip_padding(array: NDArray[np.int16]) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Set scanner padding below the CT scale to -1024 HU.

    Args:
        array: HU.

    Returns:
        The same array if it holds no padding, else a copy; and a sentence about it.
    """
    if int(array.min()) >= PADDING_HU:
        return array, ()
    count = int((array < AIR_HU).sum())
    return np.maximum(array, np.int16(AIR_HU)), padding_repair(count)


def padding_repair(count: int) -> tuple[str, ...]:
    """Return the sentence about padding that was set to air."""
    return (f"set {count:,} voxels below {AIR_HU} HU (padding) to {AIR_HU}",)
