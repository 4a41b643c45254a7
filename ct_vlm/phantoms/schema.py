"""What a phantom is made of: its settings, its findings and the phantom itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from ct_vlm.errors import ConfigError
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Side = Literal["left", "right", "bilateral"]
Bounds = tuple[int, int, int, int, int, int]

LOBES: tuple[str, ...] = (
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "left lower lobe",
)
"""Names of organ classes 1 to 5."""

ORGANS: tuple[str, ...] = (
    *LOBES,
    "airways",
    "heart",
    "aorta",
    "mediastinum",
    "esophagus",
    "liver",
    "spleen",
    "kidneys",
    "bone",
    "thyroid",
    "breast",
)

SEGMENTATION_CLASSES: tuple[str, ...] = ("background", *ORGANS, *CT_RATE_LABELS)
"""Class names of a phantom's label map by value: 0 background, 1-16 organs, 17-34 findings."""

FINDING_OFFSET = 1 + len(ORGANS)
"""Class of a finding = this + its index in ``CT_RATE_LABELS``."""

DEFAULT_PREVALENCE: dict[str, float] = {
    "Medical material": 0.10,
    "Arterial wall calcification": 0.19,
    "Cardiomegaly": 0.10,
    "Pericardial effusion": 0.07,
    "Coronary artery wall calcification": 0.17,
    "Hiatal hernia": 0.11,
    "Lymphadenopathy": 0.17,
    "Emphysema": 0.14,
    "Atelectasis": 0.17,
    "Lung nodule": 0.26,
    "Lung opacity": 0.22,
    "Pulmonary fibrotic sequela": 0.16,
    "Pleural effusion": 0.11,
    "Mosaic attenuation pattern": 0.08,
    "Peribronchial thickening": 0.09,
    "Consolidation": 0.13,
    "Bronchiectasis": 0.09,
    "Interlobular septal thickening": 0.08,
}
"""Share of scans with each label. Inferred: about 0.65 x CT-RATE's prevalence, flattened so that a
model which does not look at the image scores low."""


@dataclass(frozen=True)
class PhantomConfig:
    """Settings of the generator. All defaults are inferred: no real scan was measured for them.

    Args:
        fov_mm: Extent of the grid (D, H, W) in mm, tight around the body.
        normal_share: Share of scans without any label.
        prevalence: Share of scans with each label, over all scans.
        resolution_mm: Voxel size that small findings stay visible at; they are drawn at least
            three of these wide. None takes it from the grid. Reconstructions of one scan that
            differ in grid need one common value, since they share a report.
        noise_hu: Standard deviation of the noise of each reconstruction kernel, soft to sharp;
            reconstruction ``i`` uses entry ``i`` modulo their number.

    Raises:
        ConfigError: If a value is out of range or a label unknown.

    Example:
        >>> from ct_vlm.phantoms import PhantomConfig
        >>> PhantomConfig.from_config(PhantomConfig(normal_share=0.5).to_config()).normal_share
        0.5
    """

    fov_mm: tuple[float, float, float] = (300.0, 240.0, 330.0)
    normal_share: float = 0.35
    prevalence: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_PREVALENCE))
    resolution_mm: float | None = None
    noise_hu: tuple[float, ...] = (10.0, 18.0)

    def __post_init__(self) -> None:
        """Check every value."""
        unknown = sorted(set(self.prevalence) ^ set(CT_RATE_LABELS))
        if unknown:
            cause = f"Expected `prevalence` to hold exactly the 18 CT-RATE labels, but these differ: {unknown}."
            raise ConfigError(cause, "Use the names of `ct_vlm.text.labels.CT_RATE_LABELS`.")
        if not 0 <= self.normal_share < 1:
            cause = f"Expected `normal_share` in [0, 1), but got {self.normal_share}."
            raise ConfigError(cause, "Pass the share of scans without findings.")
        bad = {k: v for k, v in self.prevalence.items() if not 0 <= v < 1 - self.normal_share}
        if bad:
            cause = f"Prevalences {bad} do not fit a normal share of {self.normal_share}."
            raise ConfigError(cause, "A label can be present in at most 1 - `normal_share` of the scans.")
        if len(self.fov_mm) != 3 or min(self.fov_mm) <= 0 or not self.noise_hu or min(self.noise_hu) < 0:
            cause = f"Expected three positive `fov_mm` and `noise_hu` >= 0, but got {self.fov_mm} and {self.noise_hu}."
            raise ConfigError(cause, "Pass millimetres in D, H, W order and HU.")

    def to_config(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build settings from what :meth:`to_config` returned."""
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
            return cls(**values)
        except TypeError as error:
            cause = f"Cannot build `PhantomConfig`: {error}."
            raise ConfigError(cause, "Use the output of `to_config`.") from error


@dataclass(frozen=True)
class Finding:
    """One finding that was drawn, as it stands in the report.

    Args:
        label: One of ``CT_RATE_LABELS``.
        side: Side of the patient, or None where the finding has none.
        lobe: Name of the lobe (one of ``LOBES``), where it lies in one.
        location: Other place name, e.g. ``"aortic arch"``.
        kind: Variant, e.g. ``"pacemaker"``.
        size_mm: Largest diameter as drawn, where the report states one.
        bbox: Voxels it may have changed: first (d, h, w), then one past the last.
    """

    label: str
    side: Side | None = None
    lobe: str | None = None
    location: str | None = None
    kind: str | None = None
    size_mm: int | None = None
    bbox: Bounds | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self)


@dataclass(kw_only=True)
class PhantomFacts:
    """What a scan shows and what its report says, without voxels.

    Args:
        findings: What is drawn, in label order.
        labels: 0/1 in ``CT_RATE_LABELS`` order, uint8.
        findings_text: Findings section of the report.
        impressions_text: Impressions section.
        region_reports: Sentences of the findings section by RadGenome region; regions that the
            report does not mention are absent.
        seed: Seed of the patient.
        scan: Index of the scan of this patient.
        sex: ``"F"`` or ``"M"``.
        age: Age in years.

    Shape:
        - labels: ``(18,)``.
    """

    findings: list[Finding]
    labels: npt.NDArray[np.uint8]
    findings_text: str
    impressions_text: str
    region_reports: dict[str, str]
    seed: int
    scan: int
    sex: str
    age: int


@dataclass(kw_only=True)
class Phantom(PhantomFacts):
    """A synthetic chest CT with its masks, facts and report.

    Args:
        volume: HU, int16.
        spacing: Voxel size in mm (D, H, W).
        segmentation: Label map, uint8, values named by ``SEGMENTATION_CLASSES``.
        recon: Index of the reconstruction of this scan.

    Shape:
        - volume, segmentation: ``(D, H, W)`` in canonical orientation.
    """

    volume: npt.NDArray[np.int16]
    spacing: tuple[float, float, float]
    segmentation: npt.NDArray[np.uint8]
    recon: int
