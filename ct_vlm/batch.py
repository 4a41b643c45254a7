"""The batch dict's keys, the shape letters and the canonical orientation.

**Shape letters** used in every docstring:

====== =====================================================================
letter meaning
====== =====================================================================
B      batch
C      channels of a volume or feature map
D H W  volume axes: slices (head to foot), rows (front to back), columns
       (the patient's right to left)
S      slices (= D where an encoder keeps every slice)
N      visual tokens
R      regions (masks)
L      decoder layers that receive visual states
E      embedding width of the decoder
T      text tokens
K      labels (18 for CT-RATE)
====== =====================================================================

**Orientation.** Arrays are ``(D, H, W)``: D runs from head to foot (inferior), H from front to
back (posterior) and W from the patient's right to the patient's left, i.e. NIfTI axis codes
``("L", "P", "I")`` of the array ``(W, H, D)``. The patient's left is on the image's right, as on a
radiological display. A preset may ask for another order (CT-CLIP weights need theirs).

**Units.** Millimetres, Hounsfield units (HU), millilitres.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

CANONICAL_AXCODES = ("I", "P", "L")
"""Axis codes of a canonical ``(D, H, W)`` array: index grows toward foot, back, patient's left."""


class Batch(TypedDict, total=False):
    """Keys a batch may hold; every key is optional, and tasks say which ones they need.

    Attributes:
        image: Windowed volume, float, ``(B, C, D, H, W)``.
        segmentation: Label map, integer, ``(B, D, H, W)``.
        region_masks: One mask a region, uint8, ``(B, R, D, H, W)``.
        region_present: Whether a region's mask holds a voxel, bool, ``(B, R)``.
        region_mask_found: Whether a region has a mask at all, if only an empty one, bool, ``(B, R)``.
        region_text_present: Whether the report says anything of a region, bool, ``(B, R)``.
        region_names: Names of the regions that the masks are of, R a sample.
        mask_provenance: Who drew the masks, a dict a sample.
        slice_file_index: Slice of the file that holds the middle of each slice, as the file numbers it;
            -1 in padding, int64, ``(B, D)``.
        slice_position_mm: Coordinate of each slice along the body, as RAS+ counts, float, ``(B, D)``.
        labels: Abnormality labels, float 0/1 (NaN where unknown), ``(B, K)``.
        spacing: Voxel size in mm, float, ``(B, 3)`` in D, H, W order.
        padding_mask: Whether a slice is padding, bool, ``(B, D)``.
        attributes: Patient attributes of each sample (``PatientAttributes.to_dict``), None where unknown.
        report: Target report of each sample.
        full_report: Report of each sample where ``report`` is another target text.
        text_key: Equal where two target texts say the same.
        text_embedding: Embedding of the target text, float, ``(B, F)``.
        condition_embeddings: Embeddings of what a sample may show, float, ``(B, P, F)``.
        condition_mask: Which of them it shows, bool, ``(B, P)``.
        region_reports: Region name to text, a dict a sample.
        prompt: Instruction text of each sample.
        volume_id: Volume name without directory or suffix, e.g. ``train_1_a_1``.
        study_id: Scan, e.g. ``train_1_a``.
        patient_id: Patient, e.g. ``train_1``.
    """

    image: Tensor
    segmentation: Tensor
    region_masks: Tensor
    region_present: Tensor
    region_mask_found: Tensor
    region_text_present: Tensor
    region_names: list[list[str]]
    mask_provenance: list[dict[str, str]]
    slice_file_index: Tensor
    slice_position_mm: Tensor
    labels: Tensor
    spacing: Tensor
    padding_mask: Tensor
    attributes: list[dict[str, Any] | None]
    report: list[str]
    full_report: list[str]
    text_key: list[str]
    text_embedding: Tensor
    condition_embeddings: Tensor
    condition_mask: Tensor
    region_reports: list[dict[str, str]]
    prompt: list[str]
    volume_id: list[str]
    study_id: list[str]
    patient_id: list[str]
