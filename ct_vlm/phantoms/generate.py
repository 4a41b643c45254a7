"""One call from a seed to a phantom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.phantoms.anatomy import Anatomy
from ct_vlm.phantoms.canvas import Canvas
from ct_vlm.phantoms.findings import PAINTERS, Scene
from ct_vlm.phantoms.labels import sample_labels
from ct_vlm.phantoms.noise import add_noise
from ct_vlm.phantoms.organs import paint_body, paint_heart, paint_mediastinum
from ct_vlm.phantoms.report import write_report
from ct_vlm.phantoms.schema import FINDING_OFFSET, LOBES, Phantom, PhantomConfig
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

    Raises:
        ShapeError: If the grid is empty or not three-dimensional.
        ConfigError: If a label is unknown.

    Example:
        >>> from ct_vlm.phantoms import make_phantom
        >>> phantom = make_phantom(7, (16, 24, 24), labels=["Pleural effusion"])
        >>> phantom.volume.shape, phantom.volume.dtype.name, phantom.findings[0].label
        ((16, 24, 24), 'int16', 'Pleural effusion')
    """
    settings = config or PhantomConfig()
    if len(shape) != 3 or min(shape) < 1:
        cause = f"Expected `shape` as three positive sizes (D, H, W), but got {shape}."
        raise ShapeError(cause, "Pass e.g. (64, 64, 64).")
    present = _present(seed, scan, labels, settings)
    anatomy = Anatomy.sample(stream(seed, "anatomy"))
    canvas = Canvas((shape[0], shape[1], shape[2]), settings.fov_mm)
    factor = anatomy.heart_factor if "Cardiomegaly" in present else 1.0
    paint_body(canvas, anatomy, stream(seed, "vessels"))
    paint_heart(canvas, anatomy, factor)
    paint_mediastinum(canvas, anatomy)
    findings = _paint_findings(canvas, anatomy, present, (seed, scan), settings, factor)
    kernel = recon % len(settings.noise_hu)
    add_noise(canvas.hu, stream(seed, "noise", scan, recon), settings.noise_hu[kernel], smooth=kernel == 0)
    report = write_report(findings, anatomy.sex, seed, scan)
    return Phantom(
        volume=_to_int16(canvas),
        spacing=canvas.spacing,
        segmentation=_label_map(canvas),
        findings=findings,
        labels=np.array([name in present for name in CT_RATE_LABELS], np.uint8),
        findings_text=report.findings,
        impressions_text=report.impressions,
        region_reports=report.regions,
        seed=seed,
        scan=scan,
        recon=recon,
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
    canvas: Canvas, anatomy: Anatomy, present: set[str], key: tuple[int, int], config: PhantomConfig, factor: float
) -> list[Finding]:
    """Draw every present finding and return the facts in label order."""
    resolution = config.resolution_mm or max(canvas.spacing[1:])
    order = stream(key[0], "lobes", key[1]).permutation(len(LOBES))
    drawn: dict[str, Finding] = {}
    for label, painter in PAINTERS.items():
        if label not in present:
            continue
        lobe = LOBES[order[_FOCAL.index(label) if label in _FOCAL else 0]]
        scene = Scene(canvas, anatomy, stream(key[0], "finding", label, key[1]), label, lobe, resolution, factor)
        drawn[label] = painter(scene)
    for label, finding in drawn.items():
        _ensure_visible(canvas, label, finding)
    return [drawn[label] for label in CT_RATE_LABELS if label in drawn]


def _ensure_visible(canvas: Canvas, label: str, finding: Finding) -> None:
    """Give a finding that a coarse grid lost (or later ones cover) at least one voxel."""
    mark = _mark(label)
    low, high = (finding.bbox[:3], finding.bbox[3:]) if finding.bbox else ((0, 0, 0), canvas.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if (canvas.marks[box] == mark).any():
        return
    voxel = tuple((a + b) // 2 for a, b in zip(low, high, strict=True))
    canvas.marks[voxel] = mark
    canvas.hu[voxel] = _RESCUE_HU.get(label, 30.0)


_RESCUE_HU = {
    "Medical material": 2600.0,
    "Arterial wall calcification": 1000.0,
    "Coronary artery wall calcification": 1000.0,
    "Emphysema": -995.0,
    "Lung opacity": -570.0,
    "Mosaic attenuation pattern": -690.0,
    "Interlobular septal thickening": -250.0,
}


def _mark(label: str) -> int:
    return FINDING_OFFSET + CT_RATE_LABELS.index(label)


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
