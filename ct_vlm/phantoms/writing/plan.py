"""Which patients, scans and reconstructions a tree holds."""

from __future__ import annotations

from dataclasses import dataclass

from ct_vlm.errors import ConfigError
from ct_vlm.phantoms.streams import stream

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class VolumePlan:
    """One volume to write.

    Args:
        split: ``"train"`` or ``"valid"``.
        patient: Number of the patient within the split, from 1.
        seed: Seed of the patient.
        scan: Index of the scan.
        recon: Index of the reconstruction.
        shape: Grid (D, H, W).
        intercept: Rescale intercept of the scanner's stored values in HU.
        defect: Name of a defect to inject.
    """

    split: str
    patient: int
    seed: int
    scan: int
    recon: int
    shape: tuple[int, int, int]
    intercept: int
    defect: str | None = None

    @property
    def name(self) -> str:
        """Volume name without suffix, in CT-RATE's grammar."""
        return f"{self.study}_{self.recon + 1}"

    @property
    def study(self) -> str:
        """Name of the scan."""
        return f"{self.split}_{self.patient}_{_LETTERS[self.scan]}"

    @property
    def folder(self) -> str:
        """Folder of the volume below its split's folder."""
        return f"{self.split}_{self.patient}/{self.study}"


def plan_volumes(
    count: int,
    shape: tuple[int, int, int],
    seed: int,
    *,
    valid_fraction: float,
    second_scan: float,
    second_recon: float,
) -> list[VolumePlan]:
    """Share a number of volumes among patients of both splits.

    Args:
        count: Number of volumes in total.
        shape: Grid of a scan's first reconstruction; the second has four fifths of its slices.
        seed: Seed of the tree.
        valid_fraction: Share of the volumes in the validation split; both splits get at least
            one unless the share is 0.
        second_scan: Share of patients with two scans.
        second_recon: Share of scans with two reconstructions.

    Returns:
        Volumes of the training split, then of the validation split.

    Raises:
        ConfigError: If a number is out of range.
    """
    if count < 1 or not all(0 <= share <= 1 for share in (second_scan, second_recon)) or not 0 <= valid_fraction < 1:
        cause = (
            f"Expected `count` >= 1 and shares in [0, 1], but got {(count, valid_fraction, second_scan, second_recon)}."
        )
        raise ConfigError(cause, "`valid_fraction` must also be below 1.")
    valid = round(count * valid_fraction)
    if valid_fraction > 0 and count > 1:
        valid = min(max(valid, 1), count - 1)
    plans: list[VolumePlan] = []
    for split, number in (("train", count - valid), ("valid", valid)):
        rows: list[VolumePlan] = []
        while len(rows) < number:
            patient = rows[-1].patient + 1 if rows else 1
            rows.extend(plan_patient(split, patient, shape, seed, second_scan, second_recon))
        plans.extend(rows[:number])
    return plans


def plan_patient(
    split: str, patient: int, shape: tuple[int, int, int], seed: int, second_scan: float, second_recon: float
) -> list[VolumePlan]:
    """Return the volumes of one patient."""
    rng = stream(seed, "plan", split, patient)
    own = int(rng.integers(2**31))
    rows = []
    scans = 1 + int(rng.random() < second_scan)
    for scan in range(scans):
        intercept = -8192 if rng.random() < 0.15 else -1024
        for recon in range(1 + int(rng.random() < second_recon)):
            grid = shape if recon == 0 else (max(1, round(0.8 * shape[0])), shape[1], shape[2])
            rows.append(VolumePlan(split, patient, own, scan, recon, grid, intercept))
    return rows
