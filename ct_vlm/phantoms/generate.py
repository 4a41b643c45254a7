"""One call from a seed to a phantom."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.phantoms.anatomy import Anatomy
from ct_vlm.phantoms.canvas import Canvas, DryCanvas
from ct_vlm.phantoms.findings import PAINTERS, Scene
from ct_vlm.phantoms.labels import sample_labels
from ct_vlm.phantoms.noise import add_noise
from ct_vlm.phantoms.organs import paint_body, paint_heart, paint_mediastinum
from ct_vlm.phantoms.report import write_report
from ct_vlm.phantoms.schema import FINDING_OFFSET, LOBES, Phantom, PhantomConfig, PhantomFacts
from ct_vlm.phantoms.streams import stream
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ct_vlm.phantoms.schema import Finding

_FOCAL = ("Consolidation", "Lung opacity", "Bronchiectasis", "Lung nodule")


def make_phantom(
    seed: int,
    shape: tuple[int, int, int] = (64, 64, 64),
    *,
    scan: int = 0,
    recon: int = 0,
    labels: Sequence[str] | None = None,
    config: PhantomConfig | None = None,
) -> Phantom:
    """Make the synthetic chest CT of one patient, with masks, facts and report.

    The same arguments give the same phantom in every process. Anatomy, labels, each finding, text
    and noise have their own random streams, so turning one label on changes that finding's voxels
    and sentences and nothing else. Findings too small for the grid are drawn larger rather than
    dropped, and the report states the size drawn.

    Args:
        seed: Seed of the patient; anatomy depends on it alone.
        shape: Grid size (D, H, W).
        scan: Index of the patient's scan; each has its own labels.
        recon: Index of the scan's reconstruction; each has its own noise, all share the report.
        labels: Labels to show; None draws them, see :func:`sample_labels`.
        config: Settings of the generator.

    Returns:
        Volume, label map, facts and report.

    Raises:
        ShapeError: If the grid is empty or not three-dimensional.
        ConfigError: If a label is unknown.

    Example:
        >>> from ct_vlm.phantoms import make_phantom
        >>> phantom = make_phantom(7, (16, 24, 24), labels=["Pleural effusion"])
        >>> phantom.volume.shape, phantom.volume.dtype.name, phantom.findings[0].label
        ((16, 24, 24), 'int16', 'Pleural effusion')
    """
    settings = _settle(config, shape)
    present = _present(seed, scan, labels, settings)
    anatomy = Anatomy.sample(stream(seed, "anatomy"))
    canvas = Canvas((shape[0], shape[1], shape[2]), settings.fov_mm)
    paint_body(canvas, anatomy, stream(seed, "vessels"))
    paint_heart(canvas, anatomy, anatomy.heart_factor if "Cardiomegaly" in present else 1.0)
    paint_mediastinum(canvas, anatomy)
    facts = _facts(canvas, anatomy, present, seed, scan, settings)
    for finding in facts.findings:
        _ensure_visible(canvas, finding)
    kernel = recon % len(settings.noise_hu)
    add_noise(canvas.hu, stream(seed, "noise", scan, recon), settings.noise_hu[kernel], smooth=kernel == 0)
    return Phantom(
        volume=_to_int16(canvas), spacing=canvas.spacing, segmentation=_label_map(canvas), recon=recon, **vars(facts)
    )


def describe_phantom(
    seed: int,
    shape: tuple[int, int, int] = (64, 64, 64),
    *,
    scan: int = 0,
    labels: Sequence[str] | None = None,
    config: PhantomConfig | None = None,
) -> PhantomFacts:
    """Return the facts and the report of :func:`make_phantom` without drawing, far faster.

    Args:
        seed: Seed of the patient.
        shape: Grid the phantom would have; stated sizes depend on it unless ``resolution_mm`` is set.
        scan: Index of the patient's scan.
        labels: Labels to show; None draws them.
        config: Settings of the generator.

    Returns:
        Facts and report; bounding boxes are None.

    Raises:
        ShapeError: If the grid is empty or not three-dimensional.
        ConfigError: If a label is unknown.

    Example:
        >>> from ct_vlm.phantoms import describe_phantom, make_phantom
        >>> describe_phantom(7, (16, 24, 24)).findings_text == make_phantom(7, (16, 24, 24)).findings_text
        True
    """
    settings = _settle(config, shape)
    present = _present(seed, scan, labels, settings)
    anatomy = Anatomy.sample(stream(seed, "anatomy"))
    return _facts(DryCanvas(settings.fov_mm), anatomy, present, seed, scan, settings)


def _settle(config: PhantomConfig | None, shape: tuple[int, ...]) -> PhantomConfig:
    """Check the grid and set the voxel size at which findings must stay visible."""
    if len(shape) != 3 or min(shape) < 1:
        cause = f"Expected `shape` as three positive sizes (D, H, W), but got {shape}."
        raise ShapeError(cause, "Pass e.g. (64, 64, 64).")
    settings = config or PhantomConfig()
    if settings.resolution_mm is not None:
        return settings
    return replace(settings, resolution_mm=max(settings.fov_mm[1] / shape[1], settings.fov_mm[2] / shape[2]))


def _facts(
    canvas: Canvas, anatomy: Anatomy, present: set[str], seed: int, scan: int, config: PhantomConfig
) -> PhantomFacts:
    """Draw the findings and write the report about them."""
    findings = _paint_findings(canvas, anatomy, present, (seed, scan), config)
    report = write_report(findings, anatomy.sex, seed, scan)
    return PhantomFacts(
        findings=findings,
        labels=np.array([name in present for name in CT_RATE_LABELS], np.uint8),
        findings_text=report.findings,
        impressions_text=report.impressions,
        region_reports=report.regions,
        seed=seed,
        scan=scan,
        sex=anatomy.sex,
        age=anatomy.age,
    )


def _present(seed: int, scan: int, labels: Sequence[str] | None, config: PhantomConfig) -> set[str]:
    """Return the labels to show."""
    if labels is None:
        drawn = sample_labels(seed, scan, config=config)
        return {name for name, value in zip(CT_RATE_LABELS, drawn, strict=True) if value}
    unknown = sorted(set(labels) - set(CT_RATE_LABELS))
    if unknown:
        cause = f"Unknown labels {unknown}."
        raise ConfigError(cause, "Use the names of `ct_vlm.text.labels.CT_RATE_LABELS`.")
    return set(labels)


def _paint_findings(
    canvas: Canvas, anatomy: Anatomy, present: set[str], key: tuple[int, int], config: PhantomConfig
) -> list[Finding]:
    """Draw every present finding and return the facts in label order."""
    resolution = config.resolution_mm or 0.0
    factor = anatomy.heart_factor if "Cardiomegaly" in present else 1.0
    order = stream(key[0], "lobes", key[1]).permutation(len(LOBES))
    drawn: dict[str, Finding] = {}
    for label, painter in PAINTERS.items():
        if label not in present:
            continue
        lobe = LOBES[order[_FOCAL.index(label) if label in _FOCAL else 0]]
        scene = Scene(canvas, anatomy, stream(key[0], "finding", label, key[1]), label, lobe, resolution, factor)
        drawn[label] = painter(scene)
    return [drawn[label] for label in CT_RATE_LABELS if label in drawn]


def _ensure_visible(canvas: Canvas, finding: Finding) -> None:
    """Give a finding that a coarse grid lost (or later ones cover) at least one voxel."""
    mark = FINDING_OFFSET + CT_RATE_LABELS.index(finding.label)
    low, high = (finding.bbox[:3], finding.bbox[3:]) if finding.bbox else ((0, 0, 0), canvas.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if (canvas.marks[box] == mark).any():
        return
    voxel = tuple((a + b) // 2 for a, b in zip(low, high, strict=True))
    canvas.marks[voxel] = mark
    canvas.hu[voxel] = _RESCUE_HU.get(finding.label, 30.0)


_RESCUE_HU = {
    "Medical material": 2600.0,
    "Arterial wall calcification": 1000.0,
    "Coronary artery wall calcification": 1000.0,
    "Emphysema": -995.0,
    "Lung opacity": -520.0,
    "Mosaic attenuation pattern": -690.0,
    "Interlobular septal thickening": -250.0,
}


def _to_int16(canvas: Canvas) -> npt.NDArray[np.int16]:
    """Round to whole HU within the range of a scanner."""
    volume = np.empty(canvas.shape, np.int16)
    whole = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]), slice(0, canvas.shape[2]))
    for sub, *_ in canvas.chunks(whole):
        view = canvas.hu[sub]
        np.maximum(np.minimum(view, 3071, out=view), -1024, out=view)
        np.rint(view, out=view)
        volume[sub] = view
    return volume


def _label_map(canvas: Canvas) -> npt.NDArray[np.uint8]:
    """Overlay the findings on the organs."""
    np.copyto(canvas.organs, canvas.marks, where=canvas.marks > 0)
    return canvas.organs
