"""Small sound trees of CT-RATE and RadGenome-ChestCT that a test breaks in one place."""

from __future__ import annotations

import csv
import gzip
import hashlib
import shutil
import struct
import zlib
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (20, 18, 16)
LPS = np.diag([-10.0, -10.0, 10.0, 1.0])
INTERCEPT = -1024
LONG = {"train": "train", "valid": "validation"}


def body(name: str) -> np.ndarray:
    """Return HU (x, y, z) of a block of tissue with two lungs, different for each name."""
    hu = np.full(SHAPE, -1000.0)
    hu[1:-1, 1:-1] = 40
    hu[3:8, 4:12, 2:-2] = -850
    hu[11:16, 4:12, 2:-2] = -850
    hu[9:11, 12:16] = 400
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 6, SHAPE)
    return np.maximum(np.rint(hu + noise), -1024).astype(np.int16)


class Tree:
    """A data set on disk, with ways to break it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "dataset"

    def save(self, path: Path, array: np.ndarray, affine: np.ndarray = LPS, **fields: Any) -> Path:
        """Write a volume with both forms set; ``fields`` overwrite header fields."""
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(array, affine)
        image.set_qform(affine, 1)
        image.header.set_xyzt_units("mm")
        content = bytearray(image.to_bytes())
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.binaryblock
        path.write_bytes(gzip.compress(bytes(content), 1, mtime=0) if path.suffix == ".gz" else bytes(content))
        return path

    def patch(self, path: Path, **fields: Any) -> None:
        """Overwrite header fields of a file and leave all else."""
        content = bytearray(gzip.decompress(path.read_bytes()))
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.binaryblock
        path.write_bytes(gzip.compress(bytes(content), 1, mtime=0))

    def content(self, path: Path) -> bytes:
        """Return a file decoded."""
        return gzip.decompress(path.read_bytes())

    def read_csv(self, path: Path) -> list[list[str]]:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.reader(stream))

    def write_csv(self, path: Path, rows: list[list[Any]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)

    def edit(self, path: Path, change: Callable[[list[list[Any]]], Any]) -> None:
        """Change the rows of a table; the first is the header."""
        rows = self.read_csv(path)
        change(rows)
        self.write_csv(path, rows)

    def set_cell(self, path: Path, row: int, column: str, value: str) -> None:
        """Change one cell; row 1 is the first below the header."""
        self.edit(path, lambda rows: rows[row].__setitem__(rows[0].index(column), value))

    def drop_column(self, path: Path, column: str) -> None:
        def drop(rows: list[list[str]]) -> None:
            index = rows[0].index(column)
            for row in rows:
                del row[index]

        self.edit(path, drop)

    def digest(self) -> dict[str, str]:
        """Return a checksum of every file, and the target of every link."""
        return {
            str(path): str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.rglob("*"))
            if path.is_symlink() or path.is_file()
        }


class CTRateTree(Tree):
    """Four volumes in both releases."""

    NAMES = ("train_1_a_1", "train_1_a_2", "train_2_a_1", "valid_1_a_1")

    def write(self) -> CTRateTree:
        for name in self.NAMES:
            self.save(self.volume(name), body(name))
            self.save(self.volume(name, "v1"), body(name) - np.int16(INTERCEPT), np.eye(4))
        for split in ("train", "valid"):
            names = [name for name in self.NAMES if name.startswith(split)]
            columns = ["VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN"]
            rows = [[f"{n}.nii.gz", "Cough.", "Axial.", f"Findings of {n[:-2]}.", "Normal."] for n in names]
            self.write_csv(self.reports(split), [columns, *rows])
            bits = [1, *[0] * 17]
            self.write_csv(
                self.labels(split), [["VolumeName", *CT_RATE_LABELS], *([f"{n}.nii.gz", *bits] for n in names)]
            )
            columns = ["VolumeName", "ImageOrientationPatient", "Rows", "Columns", "XYSpacing", "RescaleIntercept",
                       "RescaleSlope", "NumberofSlices", "ZSpacing"]  # fmt: skip
            row = ["[1, 0, 0, 0, 1, 0]", SHAPE[1], SHAPE[0], "[10.0, 10.0]", INTERCEPT, 1, SHAPE[2], 10.0]
            self.write_csv(self.metadata(split), [columns, *([f"{n}.nii.gz", *row] for n in names)])
            self.no_chest(split).write_text("", encoding="utf-8")
        return self

    def volume(self, name: str, release: str = "v2") -> Path:
        patient, study = name.rsplit("_", 2)[0], name.rsplit("_", 1)[0]
        suffix = "_fixed" if release == "v2" else ""
        return self.base / f"{patient.partition('_')[0]}{suffix}" / patient / study / f"{name}.nii.gz"

    def reports(self, split: str = "train") -> Path:
        return self.base / f"radiology_text_reports/{LONG[split]}_reports.csv"

    def labels(self, split: str = "train") -> Path:
        return self.base / f"multi_abnormality_labels/{split}_predicted_labels.csv"

    def metadata(self, split: str = "train") -> Path:
        return self.base / f"metadata/{LONG[split]}_metadata.csv"

    def no_chest(self, split: str = "train") -> Path:
        return self.base / f"metadata/no_chest_{split}.txt"


class RadGenomeTree(Tree):
    """Three volumes with ten region masks each, and the twelve tables."""

    NAMES = ("train_1_a_1", "train_2_a_11", "valid_1_a_1")

    def write(self) -> RadGenomeTree:
        mask = np.zeros(SHAPE, np.uint8)
        mask[3:8, 4:12, 2:-2] = 1
        for name in self.NAMES:
            self.save(self.volume(name), body(name))
            for region in RADGENOME_REGIONS:
                self.save(self.mask(name, region), mask)
        for split in ("train", "valid"):
            for kind, columns, rows in self._tables():
                content = [[f"{n}.nii.gz", *row] for n in self.NAMES if n.startswith(split) for row in rows]
                self.write_csv(self.table(kind, split), [["Volumename", *columns], *content])
        return self

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        path = "lung/lung/right lung/right lung upper lobe"
        return [
            ("region_report", ["Anatomy", "Sentence"],
             [["lung", "The lungs are clear."], [path, "No nodule."], ["", "Normal chest."], ["others", "No device."]]),
            ("case_disorders", ["Disorders"], [["nodule,effusion"]]),
            ("vqa_abnormality", ["Anatomy", "Abnormality"], [["lung", "nodule"]]),
            ("vqa_location", ["Anatomy", "Abnormality"], [[path, "nodule"]]),
            ("vqa_presence", ["Anatomy", "Finding", "Presence"],
             [["lung", "nodule", "Yes."], ["pleura/pleura", "effusion", "No."]]),
            ("vqa_size", ["Anatomy", "Abnormality", "Size"],
             [["lung", "nodule", "50 mm"], ["lung", "mass", "6x4 mm"], ["lung", "cyst", "2 cm"]]),
        ]  # fmt: skip

    def volume(self, name: str) -> Path:
        split, patient, scan, _ = name.split("_")
        folder = f"{split}_{patient}"
        return self.base / f"{split}_preprocessed" / folder / f"{folder}{scan}" / f"{name}.nii.gz"

    def mask(self, name: str, region: str = "lung") -> Path:
        return self.base / f"{name.partition('_')[0]}_region_mask" / f"seg_{name}" / f"{region}.nii.gz"

    def table(self, kind: str, split: str = "train") -> Path:
        return self.base / f"radgenome_files/{LONG[split]}_{kind}.csv"


@pytest.fixture(scope="session")
def sound_trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both trees, written once; tests get copies."""
    folder = tmp_path_factory.mktemp("sound")
    CTRateTree(folder / "ct_rate").write()
    RadGenomeTree(folder / "radgenome").write()
    return folder


@pytest.fixture
def ct_rate(tmp_path: Path, sound_trees: Path) -> CTRateTree:
    """A sound CT-RATE tree."""
    return CTRateTree(shutil.copytree(sound_trees / "ct_rate", tmp_path / "ct_rate"))


@pytest.fixture
def radgenome(tmp_path: Path, sound_trees: Path) -> RadGenomeTree:
    """A sound RadGenome-ChestCT tree."""
    return RadGenomeTree(shutil.copytree(sound_trees / "radgenome", tmp_path / "radgenome"))


@pytest.fixture
def hostile_header() -> Callable[..., bytes]:
    """Build a NIfTI-1 file of a few bytes that claims anything."""

    def build(dims: list[int], dtype: int = 4, body: bytes = b"") -> bytes:
        header = bytearray(352)
        struct.pack_into("<i", header, 0, 348)
        struct.pack_into("<8h", header, 40, *dims)
        struct.pack_into("<hh", header, 70, dtype, 16)
        struct.pack_into("<8f", header, 76, *[1.0] * 8)
        struct.pack_into("<f", header, 108, 352)
        header[344:348] = b"n+1\0"
        return gzip.compress(bytes(header) + body, mtime=0)

    return build
