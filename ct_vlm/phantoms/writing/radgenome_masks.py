"""Masks of a phantom at the two levels of RadGenome-ChestCT: ten regions, and anatomies down to lobes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.organs import ORGAN
from ct_vlm.phantoms.schema import FINDING_OFFSET
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    import numpy.typing as npt

    from ct_vlm.phantoms.shapes import Array

    Mask = npt.NDArray[np.bool_]

ANATOMIES: dict[str, tuple[str, ...]] = {
    "right lung upper lobe": ("right upper lobe",),
    "right lung middle lobe": ("right middle lobe",),
    "right lung lower lobe": ("right lower lobe",),
    "left lung upper lobe": ("left upper lobe",),
    "left lung lower lobe": ("left lower lobe",),
    "right lung": ("right upper lobe", "right middle lobe", "right lower lobe"),
    "left lung": ("left upper lobe", "left lower lobe"),
    "trachea": ("airways",),
    "heart": ("heart",),
    "aorta": ("aorta",),
    "esophagus": ("esophagus",),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "right kidney": ("kidneys",),
    "left kidney": ("kidneys",),
}
"""Name of an anatomy mask to the organs of a phantom it is made of. The lobes are spelled as in
RadGenome-ChestCT; the other names are inferred."""

_LUNGS = ANATOMIES["right lung"] + ANATOMIES["left lung"]
_REGIONS: dict[str, tuple[str, ...]] = {
    "abdomen": ("liver", "spleen", "kidneys"),
    "bone": ("bone",),
    "breast": ("breast",),
    "esophagus": ("esophagus",),
    "heart": ("heart",),
    "lung": _LUNGS,
    "mediastinum": ("mediastinum", "aorta", "esophagus"),
    "pleura": (),
    "thyroid": ("thyroid",),
    "trachea and bronchie": ("airways",),
}
# findings that belong to an organ wherever they lie; the others to the organ that they lie in
_OWNERS = {
    "Cardiomegaly": "heart",
    "Pericardial effusion": "heart",
    "Coronary artery wall calcification": "heart",
    "Arterial wall calcification": "aorta",
    "Lymphadenopathy": "mediastinum",
    "Hiatal hernia": "esophagus",
    "Peribronchial thickening": "airways",
}
_EFFUSION = FINDING_OFFSET + CT_RATE_LABELS.index("Pleural effusion")


def organ_map(segmentation: Array, healthy: Array) -> Array:
    """Return the organ of each voxel, findings included; fluid in the pleural space has none.

    Args:
        segmentation: Label map of the phantom, in which findings cover organs.
        healthy: Label map of the same anatomy without findings.

    Shape:
        - all: ``(D, H, W)``.
    """
    organs = np.where(segmentation < FINDING_OFFSET, segmentation, healthy)
    for label, organ in _OWNERS.items():
        organs[segmentation == FINDING_OFFSET + CT_RATE_LABELS.index(label)] = ORGAN[organ]
    organs[segmentation == _EFFUSION] = 0
    return organs


def region_mask(region: str, organs: Array, segmentation: Array) -> Mask:
    """Return the mask of one of the ten regions; the esophagus lies in two of them.

    The pleura is what touches the lungs from outside, with the fluid in it (inferred).
    """
    mask: Mask = np.isin(organs, [ORGAN[name] for name in _REGIONS[region]])
    if region == "pleura":
        from scipy import ndimage

        lungs = region_mask("lung", organs, segmentation)
        mask = (ndimage.binary_dilation(lungs) & ~lungs) | (segmentation == _EFFUSION)
    return mask


def anatomy_mask(anatomy: str, organs: Array) -> Mask:
    """Return the mask of one of :data:`ANATOMIES`."""
    mask: Mask = np.isin(organs, [ORGAN[name] for name in ANATOMIES[anatomy]])
    if anatomy.endswith("kidney"):
        middle = organs.shape[2] // 2  # columns run from the patient's right to the left
        mask[:, :, slice(middle, None) if anatomy.startswith("right") else slice(middle)] = False
    return mask
