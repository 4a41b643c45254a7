"""Columns and keys under which the field's tools store reports."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

ID_NAMES = (
    "VolumeName",
    "volume_id",
    "AccessionNo",
    "input_image_name",
    "id",
    "name",
    "series_id",
    "study_id",
)
"""Who a report belongs to: CT-RATE, RadGenome-ChestCT, ours, VLM3D (table and challenge file), U-VLM, others."""

PREDICTION_NAMES = ("prediction", "generated_report", "generated", "hypothesis", "report", "text")
REFERENCE_NAMES = ("reference", "ground_truth", "report", "report_text", "text")
FINDINGS_NAMES = ("Findings_EN", "findings")
IMPRESSIONS_NAMES = ("Impressions_EN", "impressions")
PATIENT_NAMES = ("patient_id", "PatientID", "patient")
SCAN_NAMES = ("study_id", "scan_id", "scan")
LABELS_NAME = "labels"
"""Key of the 18 labels as a list, as `ct-vlm predict` writes them."""

_DECIMAL = re.compile(r"\d+\.0")
_SUFFIXES = (".gz", ".nii", ".mha", ".nrrd", ".dcm")


def normalise_id(value: str) -> str:
    """Return an id without folder and file suffix, so that all tools' names of a volume agree.

    Numbers that a table turned into decimals ("12.0") are whole again.

    Args:
        value: An id or a file name.

    Example:
        >>> from ct_vlm.evaluation.names import normalise_id
        >>> {normalise_id(v) for v in ("valid_1_a_1", "valid_1_a_1.nii.gz", "/input/valid_1_a_1.mha")}
        {'valid_1_a_1'}
    """
    name = PurePosixPath(value.strip().replace("\\", "/")).name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removesuffix(".0") if _DECIMAL.fullmatch(name) else name
