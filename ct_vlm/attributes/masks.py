"""Named masks of one scan on its original grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.attributes.names import find_structure
from ct_vlm.attributes.provenance import MaskProvenance
from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import ShapeError
from ct_vlm.transforms.orientation import affine_from_spacing, axcodes_of, check_spacing, reorient, spacing_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Layer = tuple[NDArray[Any], tuple[int, ...] | None]

_UNKNOWN = MaskProvenance("pseudo", "unknown")


class MaskSet:
    """Masks by name, brought into canonical orientation without resampling.

    Masks of a label map are cut out of it one at a time, when they are asked for.

    Args:
        masks: Name to mask: booleans, or whole numbers of which all but 0 belong to the mask.
        affine: Voxel index to RAS+ millimetres of the arrays as given.
        spacing: Voxel size in mm of each array axis, in place of ``affine``.
        axcodes: Direction of each array axis, with ``spacing``; canonical unless given.
        provenance: Where the masks come from; unless given, an unknown model.
        stored_axcodes: Directions of the axes of the file, if the arrays were turned since; slices
            are numbered as the file numbers them.

    Shape:
        - masks: ``(D, H, W)`` for canonical ``axcodes``, else three axes in any order.

    Raises:
        ShapeError: If a mask is not three-dimensional, holds fractions, or two differ in shape.
        VolumeGeometryError: If the spacing cannot be used.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes import MaskSet
        >>> masks = MaskSet({"Heart": np.ones((2, 3, 4), bool)}, spacing=(5, 1, 1))
        >>> masks.structure("heart").sum(), round(masks.voxel_ml, 4)
        (np.int64(24), 0.005)
    """

    def __init__(
        self,
        masks: Mapping[str, NDArray[Any]],
        *,
        affine: NDArray[np.float64] | None = None,
        spacing: Sequence[float] | None = None,
        axcodes: Sequence[str] = CANONICAL_AXCODES,
        provenance: MaskProvenance = _UNKNOWN,
        stored_axcodes: Sequence[str] | None = None,
    ) -> None:
        layers: dict[str, Layer] = {name: (np.asarray(mask), None) for name, mask in masks.items()}
        self._setup(layers, _affine(affine, spacing, axcodes), provenance, stored_axcodes)

    @classmethod
    def from_label_map(
        cls,
        labels: NDArray[Any],
        names: Mapping[str, int | Sequence[int]],
        *,
        affine: NDArray[np.float64] | None = None,
        spacing: Sequence[float] | None = None,
        axcodes: Sequence[str] = CANONICAL_AXCODES,
        provenance: MaskProvenance = _UNKNOWN,
        stored_axcodes: Sequence[str] | None = None,
    ) -> MaskSet:
        """Build from a label map.

        Args:
            labels: Label map.
            names: Name to the value, or values, that make up its mask.
            affine: As in the class.
            spacing: As in the class.
            axcodes: As in the class.
            provenance: As in the class.
            stored_axcodes: As in the class.

        Example:
            >>> import numpy as np
            >>> from ct_vlm.attributes import MaskSet
            >>> lobes = np.array([[[1, 2, 3, 4, 5]]])
            >>> masks = MaskSet.from_label_map(lobes, {"right lung": [1, 2, 3], "heart": 9}, spacing=(1, 1, 1))
            >>> masks.structure("right lung").tolist()
            [[[True, True, True, False, False]]]
        """
        array = np.asarray(labels)
        layers: dict[str, Layer] = {
            name: (array, (int(value),) if isinstance(value, int | np.integer) else tuple(int(v) for v in value))
            for name, value in names.items()
        }
        result = cls.__new__(cls)
        result._setup(layers, _affine(affine, spacing, axcodes), provenance, stored_axcodes)
        return result

    def _setup(
        self,
        layers: dict[str, Layer],
        affine: NDArray[np.float64],
        provenance: MaskProvenance,
        stored_axcodes: Sequence[str] | None,
    ) -> None:
        """Check the arrays and turn them, each array once."""
        arrays = {id(array): array for array, _ in layers.values()}
        shapes = {array.shape for array in arrays.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            cause = f"Expected masks of one shape with three axes, but got {sorted(shapes) or 'no mask'}."
            raise ShapeError(cause, "Resample the masks of a scan to its grid, and pass at least one.")
        turned = {key: reorient(_whole(array), affine, CANONICAL_AXCODES) for key, array in arrays.items()}
        self._layers = {name: (turned[id(array)][0], values) for name, (array, values) in layers.items()}
        first, self.affine = next(iter(turned.values()))
        self.shape: tuple[int, int, int] = (first.shape[0], first.shape[1], first.shape[2])
        self.spacing = spacing_of(self.affine)
        check_spacing(self.spacing, "masks", "Pass the voxel size in mm, or a sound affine.")
        # 1 unless a tilted gantry sheared the voxels
        shear = float(abs(np.linalg.det(self.affine[:3, :3] / self.spacing)))
        self.voxel_ml = math.prod(self.spacing) * shear / 1000
        self.provenance = provenance
        self._from_foot = "S" in (axcodes_of(affine) if stored_axcodes is None else stored_axcodes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the masks as given."""
        return tuple(self._layers)

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """Return the mask of a name, ``(D, H, W)``."""
        array, values = self._layers[name]
        if values is None:
            return array if array.dtype == np.bool_ else array != 0
        return array == values[0] if len(values) == 1 else np.isin(array, values)

    def structure(self, structure: str) -> NDArray[np.bool_] | None:
        """Return the union of the masks that show a structure; None if no mask does.

        Args:
            structure: As :func:`ct_vlm.attributes.names.find_structure` names it.
        """
        found = [self[name] for name in self._layers if find_structure(name) == structure]
        if not found:
            return None
        return found[0] if len(found) == 1 else np.logical_or.reduce(found)

    def slice_number(self, index: int) -> int:
        """Return the number, from 0, that the stored file gives a slice ``d`` of the canonical array."""
        return self.shape[0] - 1 - index if self._from_foot else index


def _affine(
    affine: NDArray[np.float64] | None, spacing: Sequence[float] | None, axcodes: Sequence[str]
) -> NDArray[np.float64]:
    """Return the affine that was given in one of two ways."""
    if (affine is None) == (spacing is None):
        cause = "Expected either `affine` or `spacing`."
        raise ShapeError(cause, "Pass one of them: volumes and diameters need millimetres.")
    if affine is not None:
        return np.asarray(affine, dtype=float)
    sizes = [float(size) for size in spacing or ()]
    check_spacing(sizes, "masks", "Pass the voxel size in mm.")
    return affine_from_spacing(sizes, axcodes)


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of booleans or whole numbers.

    Raises:
        ShapeError: If it holds fractions, e.g. probabilities.
    """
    if array.dtype.kind in "biu":
        return array
    if array.dtype.kind == "f" and np.array_equal(array, np.rint(array)):
        return array.astype(np.int32)
    cause = f"Expected masks of booleans or whole numbers, but got {array.dtype} with other values."
    raise ShapeError(cause, "Cut probabilities at a threshold first, e.g. `probabilities > 0.5`.")
