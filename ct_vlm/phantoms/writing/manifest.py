"""``phantoms.json``: what a phantom tree holds and how it was made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ct_vlm.errors import DatasetError
from ct_vlm.files import write_json

MANIFEST_NAME = "phantoms.json"
FORMAT = 1


@dataclass
class VolumeRecord:
    """One volume of a tree.

    Args:
        name: Volume name without suffix, e.g. ``train_1_a_1``.
        split: ``"train"`` or ``"valid"``.
        seed: Seed of the patient.
        scan: Index of the scan.
        recon: Index of the reconstruction.
        shape: Grid (D, H, W).
        spacing: Voxel size in mm (D, H, W).
        sex: ``"F"`` or ``"M"``.
        age: Age in years.
        labels: Names of the labels that are present.
        findings: Facts of each finding (see ``Finding.to_json``; without bounding boxes).
        findings_text: Findings section.
        impressions_text: Impressions section.
        region_reports: Findings section by region.
        defect: Name of the defect injected into this volume, if any.
    """

    name: str
    split: str
    seed: int
    scan: int
    recon: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    sex: str
    age: int
    labels: list[str]
    findings: list[dict[str, Any]]
    findings_text: str
    impressions_text: str
    region_reports: dict[str, str]
    defect: str | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build a record from the manifest's JSON."""
        return cls(**{**values, "shape": tuple(values["shape"]), "spacing": tuple(values["spacing"])})


@dataclass
class PhantomManifest:
    """Contents of a phantom tree.

    Args:
        root: Directory of the tree.
        layout: Name of the layout.
        arguments: What the writer was called with.
        complete: Whether every file has been written.
        volumes: One record a volume.
        defects: Volume name to the defect injected into it.
    """

    root: Path
    layout: str
    arguments: dict[str, Any]
    complete: bool = False
    volumes: list[VolumeRecord] = field(default_factory=list)
    defects: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Write the manifest into the tree's root, atomically."""
        values = {k: v for k, v in asdict(self).items() if k != "root"}
        write_json(self.root / MANIFEST_NAME, {"format": FORMAT, **values})

    @classmethod
    def load(cls, root: str | Path) -> Self:
        """Read the manifest of a tree.

        Args:
            root: Directory of the tree.

        Returns:
            The manifest.

        Raises:
            DatasetError: If there is no manifest, or it cannot be read.
        """
        path = Path(root) / MANIFEST_NAME
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            known = values.pop("format")
            records = [VolumeRecord.from_json(record) for record in values.pop("volumes")]
            manifest = cls(root=Path(root), volumes=records, **values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            cause = f"`{path}` is not the manifest of a phantom tree: {error}."
            raise DatasetError(cause, "Pass a directory written by `ct-vlm phantoms`.") from error
        if known != FORMAT:
            cause = f"`{path}` has format {known}, but this version reads format {FORMAT}."
            raise DatasetError(cause, "Write the phantoms again into a new directory.")
        return manifest
