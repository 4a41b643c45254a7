"""Every label is a visible change, where the facts say and nowhere else."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from ct_vlm.phantoms import LOBES, Phantom, PhantomConfig, make_phantom
from ct_vlm.phantoms.schema import FINDING_OFFSET
from ct_vlm.text.labels import CT_RATE_LABELS

SHAPE = (48, 56, 64)
SEEDS = (3, 11)
FOV = PhantomConfig().fov_mm

# median change in HU over the finding's voxels; a soft kernel's noise is 10 HU
LEAST_CHANGE = dict.fromkeys(CT_RATE_LABELS, 300.0) | {
    "Medical material": 1200.0,
    "Arterial wall calcification": 500.0,
    "Coronary artery wall calcification": 500.0,
    "Hiatal hernia": 100.0,
    "Lymphadenopathy": 60.0,
    "Emphysema": 80.0,
    "Lung opacity": 200.0,
    "Mosaic attenuation pattern": 80.0,
    "Peribronchial thickening": 200.0,
    "Interlobular septal thickening": 200.0,
    "Pericardial effusion": 60.0,
}


@functools.cache
def render(seed: int, labels: tuple[str, ...]) -> Phantom:
    return make_phantom(seed, SHAPE, labels=labels)


def marked(phantom: Phantom, label: str) -> np.ndarray:
    return phantom.segmentation == FINDING_OFFSET + CT_RATE_LABELS.index(label)


def centers(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Voxel centers in mm from the middle of the grid, one row a voxel."""
    return (np.argwhere(mask) + 0.5) * spacing - np.array(FOV) / 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("label", CT_RATE_LABELS)
def test_label_changes_its_voxels_and_nothing_else(label: str, seed: int) -> None:
    off, on = render(seed, ()), render(seed, (label,))
    (finding,) = on.findings
    assert finding.label == label
    assert finding.bbox is not None
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(a, b) for a, b in zip(finding.bbox[:3], finding.bbox[3:], strict=True))] = True
    np.testing.assert_array_equal(on.volume[~inside], off.volume[~inside])
    np.testing.assert_array_equal(on.segmentation[~inside], off.segmentation[~inside])
    mask = marked(on, label)
    assert mask.sum() >= 15
    assert not marked(off, label).any()
    change = np.abs(on.volume.astype(int) - off.volume)[mask]
    assert np.median(change) >= LEAST_CHANGE[label]


@pytest.mark.parametrize("label", CT_RATE_LABELS)
def test_label_stays_local_in_company(label: str) -> None:
    company = ("Pleural effusion", "Consolidation", "Coronary artery wall calcification", "Mosaic attenuation pattern")
    others = tuple(name for name in company if name != label)
    off, on = render(SEEDS[0], others), render(SEEDS[0], (*others, label))
    bbox = next(finding.bbox for finding in on.findings if finding.label == label)
    assert bbox is not None
    changed = np.argwhere(on.volume != off.volume)
    # an enlarged heart carries its coronary plaques along, one bead's radius beyond its surface
    margin = 4 if label == "Cardiomegaly" else 0
    assert (changed >= np.array(bbox[:3]) - margin).all()
    assert (changed < np.array(bbox[3:]) + margin).all()


@pytest.mark.parametrize("seed", range(8))
def test_sides_lobes_and_sizes_are_true_of_the_voxels(seed: int) -> None:
    organs = render(seed, ()).segmentation
    for label in CT_RATE_LABELS:
        on = render(seed, (label,))
        (finding,) = on.findings
        mask = marked(on, label)
        place = centers(mask, on.spacing)
        if finding.side == "left":
            assert place[:, 2].mean() > 0, label
        if finding.side == "right":
            assert place[:, 2].mean() < 0, label
        if finding.side == "bilateral":
            assert (place[:, 2] > 0).any(), label
            assert (place[:, 2] < 0).any(), label
        if finding.lobe is not None:
            assert (organs[mask] == 1 + LOBES.index(finding.lobe)).mean() > 0.6, label


@pytest.mark.parametrize("label", ["Lung nodule", "Lung opacity", "Hiatal hernia", "Pleural effusion"])
def test_stated_size_is_the_drawn_size(label: str) -> None:
    axis = 1 if label == "Pleural effusion" else 2
    errors = []
    for seed in range(10):
        on = render(seed, (label,))
        size = on.findings[0].size_mm
        if size is None:
            continue
        extent = np.ptp(np.nonzero(marked(on, label))[axis]) + 1
        errors.append(extent * on.spacing[axis] - size)
    # a patch may be cut by a fissure or be a little flat; none is wider than stated
    assert len(errors) >= 5
    assert max(errors) < 1.5 * max(on.spacing)
    assert np.median(errors) > -2.0 * max(on.spacing)


@pytest.mark.parametrize("label", CT_RATE_LABELS)
def test_small_findings_grow_with_the_voxels(label: str) -> None:
    for shape in [(17, 33, 29), (12, 16, 16), (1, 24, 24), (3, 2, 5)]:
        on = make_phantom(5, shape, labels=[label])
        assert marked(on, label).any()


def test_every_present_label_keeps_voxels_in_crowded_scans() -> None:
    on = make_phantom(2, SHAPE, labels=CT_RATE_LABELS)
    counts = np.bincount(on.segmentation.ravel(), minlength=FINDING_OFFSET + 18)[FINDING_OFFSET:]
    assert on.labels.all()
    assert (counts >= 10).all()
