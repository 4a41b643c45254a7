"""The columns of the CT-RATE metadata table that decide HU and geometry."""

from __future__ import annotations

import ast
import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import DatasetError, VolumeGeometryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VOLUME_COLUMNS = ("VolumeName", "Volumename", "AccessionNo")
"""Names under which published tables hold the volume name."""
GEOMETRY_COLUMNS = ("RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing", "ImageOrientationPatient")


def volume_id(name: str | Path) -> str:
    """Return a volume's name without directory and suffix.

    Example:
        >>> from ct_vlm.transforms.metadata import volume_id
        >>> volume_id("dataset/train/train_1/train_1_a/train_1_a_1.nii.gz")
        'train_1_a_1'
    """
    base = str(name).replace("\\", "/").rsplit("/", 1)[-1].strip()
    return base.removesuffix(".gz").removesuffix(".nii")


@dataclass(frozen=True)
class ScanMetadata:
    """Rescale and geometry of one reconstruction; ``None`` where the table is blank.

    Args:
        slope: ``RescaleSlope``.
        intercept: ``RescaleIntercept``.
        spacing: ``(x, y, z)`` voxel size in mm; an entry is NaN where blank.
        orientation: Row and column cosines of ``ImageOrientationPatient``.
    """

    slope: float | None
    intercept: float | None
    spacing: tuple[float, float, float]
    orientation: tuple[float, ...] | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ScanMetadata:
        """Parse a row of the metadata table.

        Args:
            row: Column name to cell, as text or number.

        Raises:
            DatasetError: If a cell holds something else than the number or list it should.

        Example:
            >>> from ct_vlm.transforms.metadata import ScanMetadata
            >>> row = {"RescaleSlope": "1", "RescaleIntercept": "-8192",
            ...        "XYSpacing": "[0.75, 0.75]", "ZSpacing": "1.5"}
            >>> ScanMetadata.from_row(row).spacing
            (0.75, 0.75, 1.5)
        """
        in_plane = _numbers(row, "XYSpacing") or [math.nan, math.nan]
        x, y = (in_plane * 2)[:2]
        z = _number(row, "ZSpacing")
        cosines = _numbers(row, "ImageOrientationPatient")
        if cosines is not None and len(cosines) != 6:
            cause = f"Expected six cosines in `ImageOrientationPatient`, but got {cosines}."
            raise DatasetError(cause, "Correct the metadata row, or leave the cell blank.")
        return cls(
            slope=_number(row, "RescaleSlope"),
            intercept=_number(row, "RescaleIntercept"),
            spacing=(x, y, math.nan if z is None else z),
            orientation=None if cosines is None else tuple(cosines),
        )

    def axial_axcodes(self, path: object) -> tuple[str, str, str]:
        """Return the codes of the stored ``(x, y, z)`` axes of an axial scan.

        Slices are stored from foot to head in every published tool; the table does not say it.

        Raises:
            VolumeGeometryError: If rows and columns do not lie in the axial plane.
        """
        if self.orientation is None:
            return "L", "P", "S"
        row, column = self.orientation[:3], self.orientation[3:]
        if _main_axis(row) != 0 or _main_axis(column) != 1:
            cause = f"`{path}` is not an axial scan: ImageOrientationPatient is {list(self.orientation)}."
            raise VolumeGeometryError(
                cause, "Exclude it, or use the corrected file (`*_fixed`), whose header holds the orientation."
            )
        return ("L" if row[0] > 0 else "R"), ("P" if column[1] > 0 else "A"), "S"


def find_metadata(metadata: Mapping[str, Any] | str | Path | None, path: Path) -> ScanMetadata | None:
    """Return the metadata of a volume from a row, or from a table that names it.

    Args:
        metadata: A row, the path of a CSV, or nothing.
        path: The volume; its row is found by name.

    Returns:
        The parsed row, or ``None`` if no row was given or found.

    Raises:
        DatasetError: If the table cannot be read.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, str | Path):
        return ScanMetadata.from_row(metadata)
    wanted = volume_id(path)
    try:
        with Path(metadata).open(newline="", encoding="utf-8-sig") as stream:
            for row in csv.DictReader(stream):
                name = next((row[column] for column in VOLUME_COLUMNS if row.get(column)), "")
                if volume_id(name) == wanted:
                    return ScanMetadata.from_row(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = f"Cannot read the metadata table `{metadata}`: {error}."
        raise DatasetError(cause, "Pass the path of `train_metadata.csv` or `validation_metadata.csv`.") from error
    return None


def _main_axis(cosines: Sequence[float]) -> int:
    """Return the index of the body axis that a direction is closest to."""
    return max(range(3), key=lambda axis: abs(cosines[axis]))


def _is_blank(cell: object) -> bool:
    """Tell whether a cell is empty or NaN."""
    return cell is None or str(cell).strip().lower() in {"", "nan", "none"}


def _number(row: Mapping[str, Any], column: str) -> float | None:
    """Return a cell as a finite number, or ``None`` where blank."""
    cell = row.get(column)
    if _is_blank(cell):
        return None
    try:
        value = float(str(cell))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        cause = f"Expected a number in `{column}`, but got {cell!r}."
        raise DatasetError(cause, "Correct the metadata row, or leave the cell blank.")
    return value


def _numbers(row: Mapping[str, Any], column: str) -> list[float] | None:
    """Return a cell that holds a Python list (or one number) as floats, or ``None`` where blank."""
    cell = row.get(column)
    if _is_blank(cell):
        return None
    try:
        value: Any = ast.literal_eval(cell.strip()) if isinstance(cell, str) else cell
        numbers = [float(item) for item in value] if isinstance(value, list | tuple) else [float(value)]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        numbers = [math.nan]
    if not numbers or not all(math.isfinite(number) for number in numbers):
        cause = f"Expected a list of numbers in `{column}`, but got {cell!r}."
        raise DatasetError(cause, "Correct the metadata row, or leave the cell blank.")
    return numbers
