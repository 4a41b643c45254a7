"""Defects that real CT-RATE downloads have, one extra training patient each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.phantoms.canvas import Canvas
from ct_vlm.phantoms.shapes import ellipsoid
from ct_vlm.phantoms.writing.nifti import encode, lps_affine, to_lps
from ct_vlm.phantoms.writing.plan import VolumePlan, plan_patient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.phantoms.schema import Phantom
    from ct_vlm.phantoms.shapes import Array

DEFECTS: dict[str, str] = {
    "nan_zspacing": "the metadata row has no ZSpacing",
    "nan_affine": "the affine of the v2 file holds NaN",
    "non_axial": "a coronal series: axes L, I, P instead of L, P, S",
    "head_ct": "not a chest; listed in no_chest_train.txt",
    "truncated_gz": "the gzip stream ends in the middle",
    "row_without_file": "rows in every table, but no volume",
    "file_without_row": "a volume, but no row in any table",
    "four_d": "the file has four dimensions",
    "empty_file": "the file has zero bytes",
    "int32": "HU stored as int32",
    "not_given": "the impressions read 'Not given.'",
    "nan_text": "findings and impressions are blank",
    "double_rescaled": "the rescale intercept was applied to values that were HU already",
}
"""Defect to what is wrong with its volume."""

DAMAGED = frozenset({"nan_affine", "non_axial", "truncated_gz", "four_d", "empty_file", "int32", "double_rescaled"})
"""Defects of the file itself."""


def defective_plans(plans: Sequence[VolumePlan], shape: tuple[int, int, int], seed: int) -> list[VolumePlan]:
    """Return one more training patient for each defect, numbered after the sound ones."""
    last = max(plan.patient for plan in plans if plan.split == "train")
    extra = []
    for index, defect in enumerate(DEFECTS):
        sound = plan_patient("train", last + 1 + index, shape, seed, 0, 0)[0]
        extra.append(replace(sound, defect=defect, intercept=-1024))
    return extra


def damage(defect: str, volume: Array, spacing: tuple[float, float, float]) -> bytes:
    """Return the content of a defective v2 file.

    Shape:
        - volume: ``(D, H, W)`` in canonical orientation.
    """
    array, affine = to_lps(volume), lps_affine(volume.shape, spacing)
    if defect == "empty_file":
        return b""
    if defect == "truncated_gz":
        content = encode(array, affine)
        return content[: len(content) // 2]
    if defect == "non_axial":
        return encode(volume.transpose(2, 0, 1), _coronal_affine(volume.shape, spacing))
    if defect == "nan_affine":
        return encode(array, affine, nan_affine=True)
    variants: dict[str, tuple[Array, Array]] = {
        "four_d": (np.stack([array, array], axis=-1), affine),
        "int32": (array.astype(np.int32), affine),
        "double_rescaled": (array - np.int16(1024), affine),
    }
    return encode(*variants[defect])


def _coronal_affine(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> Array:
    """Return the affine of a canonical array stored as (W, D, H): axis codes L, I, P."""
    (d, h, w), (sz, sy, sx) = shape, spacing
    affine: Any = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = -sx, -sz, -sy, 1
    affine[:3, 3] = [(w - 1) / 2 * sx, (h - 1) / 2 * sy, (d - 1) / 2 * sz]
    return affine


def head_phantom(phantom: Phantom) -> Phantom:
    """Replace the chest by a head."""
    shape = (phantom.volume.shape[0], phantom.volume.shape[1], phantom.volume.shape[2])
    fov = (shape[0] * phantom.spacing[0], shape[1] * phantom.spacing[1], shape[2] * phantom.spacing[2])
    canvas = Canvas(shape, fov)
    for scale, hu in ((1.0, 30.0), (0.94, 900.0), (0.86, 34.0)):
        canvas.paint(ellipsoid((0, 0, 0), (110 * scale, 95 * scale, 75 * scale)), hu)
    empty = np.zeros_like(phantom.segmentation)
    return replace(phantom, volume=np.rint(canvas.hu).astype(np.int16), segmentation=empty)
