"""A tiny CT-RATE tree on disk, with the names, folders and columns of the published one."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

LABELS = (
    "Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion",
    "Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis",
    "Lung nodule", "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern",
    "Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
)  # fmt: skip
REPORT_COLUMNS = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
METADATA_COLUMNS = (
    "VolumeName", "RescaleIntercept", "RescaleSlope", "XYSpacing", "ZSpacing", "ImageOrientationPatient",
)  # fmt: skip
LPS = np.diag([-4.0, -4.0, 5.0, 1.0])


def body(seed: int, shape: tuple[int, int, int] = (12, 10, 8)) -> np.ndarray:
    """Return HU (x, y, z) of a block of tissue with two lungs, different for each seed."""
    hu = np.full(shape, -1000.0)
    hu[1:-1, 1:-1] = 40
    hu[2:5, 3:7, 1:-1] = -850
    hu[7:10, 3:7, 1:-1] = -850
    hu[5:7, 7:9] = 300 + seed
    noise = np.random.default_rng(seed).normal(0, 5, shape)
    return np.maximum(np.rint(hu + noise), -1024).astype(np.int16)


def save_nifti(array: np.ndarray, path: Path, affine: np.ndarray = LPS) -> Path:
    """Write an array, making its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@dataclass
class Tree:
    """Builds the tree; volumes first, then :meth:`write` for the tables."""

    root: Path
    reports: dict[str, list[list[str]]] = field(default_factory=lambda: {"train": [], "valid": []})
    labels: dict[str, list[list[Any]]] = field(default_factory=lambda: {"train": [], "valid": []})
    metadata: dict[str, list[list[str]]] = field(default_factory=lambda: {"train": [], "valid": []})

    @property
    def base(self) -> Path:
        return self.root / "dataset"

    def path(self, name: str, version: str = "v2") -> Path:
        """Return where a volume lies."""
        split, patient, scan, _ = name.split("_")
        folder = f"{split}{'_fixed' if version == 'v2' else ''}"
        return self.base / folder / f"{split}_{patient}" / f"{split}_{patient}_{scan}" / f"{name}.nii.gz"

    def add(
        self,
        name: str,
        *,
        version: str = "v2",
        findings: str = "Heart size is normal.",
        impressions: str = "Normal.",
        intercept: int = -1024,
        z_spacing: str = "5.0",
        rows: bool = True,
    ) -> Path:
        """Add a volume and its rows."""
        split = name.split("_", maxsplit=1)[0]
        array = body(sum(map(ord, name)))
        if version == "v1":
            array, affine = (array.astype(int) - intercept).astype(np.int16), np.eye(4)
        else:
            affine = LPS
        if rows:
            self.add_rows(name, split, findings, impressions)
            orientation = "[1, 0, 0, 0, 1, 0]"
            row = [f"{name}.nii.gz", str(intercept), "1", "[4.0, 4.0]", z_spacing, orientation]
            self.metadata[split].append(row)
        return save_nifti(array, self.path(name, version), affine)

    def add_rows(self, name: str, split: str, findings: str = "Clear.", impressions: str = "Normal.") -> None:
        """Add report and label rows of a volume that need not exist."""
        self.reports[split].append([f"{name}.nii.gz", "Cough.", "Without contrast.", findings, impressions])
        bits = [(sum(map(ord, name)) >> (position % 8)) & 1 for position in range(18)]
        self.labels[split].append([f"{name}.nii.gz", *bits])

    def write(self) -> Tree:
        """Write the tables under their published names ("validation" for reports and metadata)."""
        long = {"train": "train", "valid": "validation"}
        for split in ("train", "valid"):
            write_csv(
                self.base / f"radiology_text_reports/{long[split]}_reports.csv", REPORT_COLUMNS, self.reports[split]
            )
            write_csv(
                self.base / f"multi_abnormality_labels/{split}_predicted_labels.csv",
                ("VolumeName", *LABELS),
                self.labels[split],
            )
            write_csv(self.base / f"metadata/{long[split]}_metadata.csv", METADATA_COLUMNS, self.metadata[split])
        return self


def write_csv(path: Path, columns: Any, rows: list[list[Any]]) -> Path:
    """Write a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([list(columns), *rows])
    return path


def standard_tree(root: Path) -> Tree:
    """Return six training patients (seven scans, eight volumes) and two of validation."""
    tree = Tree(root)
    for name in ("train_1_a_1", "train_1_a_2", "train_1_b_1", "train_2_a_1", "train_3_a_1", "train_4_a_1"):
        tree.add(name, findings=f"Findings of {name}.", impressions=f"Summary of {name}.")
    for name in ("train_5_a_1", "train_6_a_1", "valid_1_a_1", "valid_2_a_1", "valid_2_a_2"):
        tree.add(name, findings=f"Findings of {name}.", impressions=f"Summary of {name}.")
    return tree.write()


def add_segmentation(tree: Tree, names: list[str], *, values: dict[str, int] | None = None) -> Path:
    """Write label maps beside the tree: 1 where lungs are, 2 in one small bright spot."""
    folder = tree.root / "segmentation"
    for name in names:
        array = body(sum(map(ord, name)))
        labels = (array < -500).astype(np.uint8)
        labels[array < -930] = 0
        labels[6, 8, 2] = 2
        save_nifti(labels, folder / "labelsTr" / f"{name}.nii.gz")
    description = {"labels": values or {"background": 0, "lung": 1, "spot": 2}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder
