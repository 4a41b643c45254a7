"""The CSV tables and text lists of CT-RATE."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from ct_vlm.files import atomic_path
from ct_vlm.phantoms.streams import stream
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ct_vlm.phantoms.writing.manifest import VolumeRecord
    from ct_vlm.phantoms.writing.plan import VolumePlan

METADATA_COLUMNS: tuple[str, ...] = (
    "VolumeName",
    "Manufacturer",
    "SeriesDescription",
    "ManufacturerModelName",
    "PatientSex",
    "PatientAge",
    "ReconstructionDiameter",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "GantryDetectorTilt",
    "TableHeight",
    "RotationDirection",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
    "FilterType",
    "GeneratorPower",
    "FocalSpots",
    "ConvolutionKernel",
    "PatientPosition",
    "RevolutionTime",
    "SingleCollimationWidth",
    "TotalCollimationWidth",
    "TableSpeed",
    "TableFeedPerRotation",
    "SpiralPitchFactor",
    "DataCollectionCenterPatient",
    "ReconstructionTargetCenterPatient",
    "ExposureModulationType",
    "CTDIvol",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "XYSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "NumberofSlices",
    "ZSpacing",
    "StudyDate",
)
REPORT_COLUMNS = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
AXIAL, CORONAL = "[1, 0, 0, 0, 1, 0]", "[1, 0, 0, 0, 0, -1]"

_INDICATIONS = (
    "Not given.",
    "Cough and shortness of breath.",
    "Follow-up.",
    "Chest pain for several days.",
    "Fever and cough.",
    "Control examination.",
    "",
)


def write_tables(dataset: Path, plans: Sequence[VolumePlan], records: Sequence[VolumeRecord]) -> None:
    """Write reports, labels, metadata and the no-chest lists of both splits.

    The names disagree on purpose, as they do in CT-RATE: reports and metadata say "validation",
    labels and folders say "valid".
    """
    for split, long in (("train", "train"), ("valid", "validation")):
        rows = [
            (plan, record)
            for plan, record in zip(plans, records, strict=True)
            if plan.split == split and plan.defect != "file_without_row"
        ]
        reports = ([f"{record.name}.nii.gz", *report_fields(record)] for _, record in rows)
        write_csv(dataset / f"radiology_text_reports/{long}_reports.csv", REPORT_COLUMNS, reports)
        labels = (
            [f"{record.name}.nii.gz", *(int(name in record.labels) for name in CT_RATE_LABELS)] for _, record in rows
        )
        names = ("VolumeName", *CT_RATE_LABELS)
        write_csv(dataset / f"multi_abnormality_labels/{split}_predicted_labels.csv", names, labels)
        metadata = (metadata_row(plan, record) for plan, record in rows)
        write_csv(dataset / f"metadata/{long}_metadata.csv", METADATA_COLUMNS, metadata)
        heads = "".join(f"{plan.name}.nii.gz\n" for plan, _ in rows if plan.defect == "head_ct")
        with atomic_path(dataset / f"metadata/no_chest_{split}.txt") as temporary:
            temporary.write_text(heads, encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def report_fields(record: VolumeRecord) -> list[str]:
    """Return the four text columns; an empty cell reads as NaN."""
    rng = stream(record.seed, "indication", record.scan)
    indication = _INDICATIONS[int(rng.integers(len(_INDICATIONS)))]
    technique = "Sections of the chest were obtained in the axial plane without contrast."
    findings, impressions = record.findings_text, record.impressions_text
    if record.defect == "not_given":
        impressions = "Not given."
    if record.defect == "nan_text":
        findings = impressions = ""
    return [indication, technique, findings, impressions]


def metadata_row(plan: VolumePlan, record: VolumeRecord) -> list[object]:
    """Return the metadata of a volume; columns that CT-RATE often lacks stay blank.

    ``XYSpacing`` holds the spacing of the file's first and second axis, as the public repair scripts
    read it. (The grids of real scans are square, so nothing there tells the order.)
    """
    rng = stream(record.seed, "scanner", record.scan)
    (d, h, w), (sz, sy, sx) = record.shape, record.spacing
    coronal = plan.defect == "non_axial"
    rows, columns, slices = (d, w, h) if coronal else (h, w, d)
    x_mm, y_mm, slice_mm = (sx, sz, sy) if coronal else (sx, sy, sz)
    first = (d - 1) / 2 * sz if coronal else -(d - 1) / 2 * sz
    kernel = ("B30f", "B70f")[plan.recon % 2]
    values: dict[str, object] = {
        "VolumeName": f"{record.name}.nii.gz",
        "Manufacturer": "Phantom",
        "SeriesDescription": "Thorax" if plan.recon == 0 else "HRCT",
        "ManufacturerModelName": "Analytic 1",
        "PatientSex": record.sex,
        "PatientAge": f"{record.age:03d}Y",
        "ReconstructionDiameter": round(max(h * sy, w * sx)),
        "GantryDetectorTilt": 0,
        "RotationDirection": "CW",
        "ConvolutionKernel": kernel,
        "PatientPosition": "HFS",
        "ImagePositionPatient": str([round(-(w - 1) / 2 * sx, 4), round(-(h - 1) / 2 * sy, 4), round(first, 4)]),
        "ImageOrientationPatient": CORONAL if coronal else AXIAL,
        "SliceLocation": round(first, 1),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "XYSpacing": str([x_mm, y_mm]),
        "RescaleIntercept": plan.intercept,
        "RescaleSlope": 1,
        "NumberofSlices": slices,
        "ZSpacing": "" if plan.defect == "nan_zspacing" else slice_mm,
        "StudyDate": 20210101 + 100 * int(rng.integers(12)) + int(rng.integers(28)),
    }
    return [values.get(column, "") for column in METADATA_COLUMNS]
