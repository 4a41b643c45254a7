"""Which labels a scan has: chosen prevalences, a share of normal scans, and co-occurrence."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.phantoms.schema import PhantomConfig
from ct_vlm.phantoms.streams import stream
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    import numpy.typing as npt

# Inferred: loadings on four latent causes (age and vessels, heart failure, infection, airways).
_LOADINGS: dict[str, tuple[float, float, float, float]] = {
    "Medical material": (0.4, 0.2, 0.0, 0.0),
    "Arterial wall calcification": (0.8, 0.0, 0.0, 0.1),
    "Cardiomegaly": (0.3, 0.75, 0.0, 0.0),
    "Pericardial effusion": (0.0, 0.75, 0.1, 0.0),
    "Coronary artery wall calcification": (0.8, 0.1, 0.0, 0.0),
    "Hiatal hernia": (0.35, 0.0, 0.0, 0.0),
    "Lymphadenopathy": (0.0, 0.1, 0.4, 0.1),
    "Emphysema": (0.2, 0.0, 0.0, 0.75),
    "Atelectasis": (0.1, 0.3, 0.3, 0.1),
    "Lung nodule": (0.1, 0.0, 0.1, 0.2),
    "Lung opacity": (0.0, 0.1, 0.75, 0.0),
    "Pulmonary fibrotic sequela": (0.2, 0.0, 0.0, 0.35),
    "Pleural effusion": (0.0, 0.7, 0.35, 0.0),
    "Mosaic attenuation pattern": (0.0, 0.15, 0.0, 0.4),
    "Peribronchial thickening": (0.0, 0.0, 0.2, 0.7),
    "Consolidation": (0.0, 0.15, 0.75, 0.0),
    "Bronchiectasis": (0.0, 0.0, 0.1, 0.75),
    "Interlobular septal thickening": (0.0, 0.75, 0.15, 0.0),
}
_CALIBRATION_DRAWS = 20_000


def sample_labels(seed: int, scan: int = 0, *, config: PhantomConfig | None = None) -> npt.NDArray[np.uint8]:
    """Draw the labels of one scan.

    A scan is normal with probability ``normal_share``; otherwise a Gaussian factor model is drawn
    until it shows at least one label. Its thresholds are set so that each label's share over all
    scans is the configured prevalence.

    Args:
        seed: Seed of the patient.
        scan: Index of the scan.
        config: Prevalences and normal share.

    Returns:
        0/1 in ``CT_RATE_LABELS`` order.

    Shape:
        - Output: ``(18,)``.

    Example:
        >>> from ct_vlm.phantoms import sample_labels
        >>> sample_labels(3).shape
        (18,)
    """
    settings = config or PhantomConfig()
    prevalence = tuple(settings.prevalence[name] for name in CT_RATE_LABELS)
    rng = stream(seed, "labels", scan)
    if rng.random() < settings.normal_share or max(prevalence) == 0:
        return np.zeros(len(prevalence), np.uint8)
    thresholds = np.array(_thresholds(prevalence, settings.normal_share))
    while True:
        labels = (_latent(rng, 1)[0] > thresholds).astype(np.uint8)
        if labels.any():
            return labels


def _latent(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Draw standard normal scores that share the latent causes."""
    loadings = np.array([_LOADINGS[name] for name in CT_RATE_LABELS])
    own = np.sqrt(1 - (loadings**2).sum(1))
    return rng.standard_normal((count, loadings.shape[1])) @ loadings.T + rng.standard_normal((count, len(own))) * own


@functools.lru_cache(maxsize=16)
def _thresholds(prevalence: tuple[float, ...], normal_share: float) -> tuple[float, ...]:
    """Return score thresholds that give the prevalences after redrawing label-free scores.

    A redraw divides each share by 1 - P(no label), which depends on the thresholds; a few
    fixed-point steps on one set of draws settle it.
    """
    scores = np.sort(_latent(stream(0, "label calibration"), _CALIBRATION_DRAWS), axis=0)
    draws = _latent(stream(0, "label calibration"), _CALIBRATION_DRAWS)
    target = np.array(prevalence) / (1 - normal_share)
    some = 1.0
    for _ in range(12):
        ranks = np.clip(((1 - target * some) * _CALIBRATION_DRAWS).astype(int), 0, _CALIBRATION_DRAWS - 1)
        limits = np.where(target > 0, scores[ranks, np.arange(len(target))], np.inf)
        some = float((draws > limits).any(1).mean())
    return tuple(float(limit) for limit in limits)
