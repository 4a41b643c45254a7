"""A volume in Hounsfield units with its place in the patient and how it was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Provenance:
    """Where a volume came from and everything that was done to it on the way.

    Args:
        path: The file that was read.
        hu_source: Rule that gave the HU: ``fixed``, ``csv``, ``header`` or ``none``.
        slope: Factor applied to the stored values.
        intercept: HU added after the factor.
        axcodes: Axis codes of the stored array, e.g. ``("L", "P", "S")``.
        shape: Shape of the stored array.
        repairs: One sentence for each repair; empty for a clean file.
    """

    path: str
    hu_source: str
    slope: float = 1.0
    intercept: float = 0.0
    axcodes: tuple[str, str, str] = ("L", "P", "S")
    shape: tuple[int, ...] = ()
    repairs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Volume:
    """A CT volume in HU in canonical orientation (or the one that was asked for).

    Args:
        array: Hounsfield units, int16.
        spacing: Voxel size in mm, in the order of the array's axes.
        affine: Voxel index to RAS+ millimetres, for this array's axes.
        provenance: File, HU rule and repairs.
        axcodes: Direction in which each array axis grows.

    Shape:
        - array: ``(D, H, W)``.
        - affine: ``(4, 4)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms import Volume
        >>> volume = Volume(np.zeros((2, 3, 4), np.int16), (5.0, 1.0, 1.0), np.eye(4))
        >>> volume.shape
        (2, 3, 4)
    """

    array: NDArray[np.int16]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    provenance: Provenance = field(default_factory=lambda: Provenance("", "none"))
    axcodes: tuple[str, str, str] = ("I", "P", "L")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size ``(D, H, W)``."""
        depth, height, width = self.array.shape
        return depth, height, width
