"""Label statistics: prevalences, normal share, co-occurrence."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from ct_vlm.phantoms import PhantomConfig, sample_labels
from ct_vlm.phantoms.schema import DEFAULT_PREVALENCE
from ct_vlm.text.labels import CT_RATE_LABELS

COUNT = 3000


@functools.cache
def draws() -> np.ndarray:
    return np.stack([sample_labels(seed) for seed in range(COUNT)])


@pytest.mark.parametrize("label", CT_RATE_LABELS)
def test_marginals(label: str) -> None:
    wanted = DEFAULT_PREVALENCE[label]
    share = draws()[:, CT_RATE_LABELS.index(label)].mean()
    assert abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / COUNT) + 0.004


def test_share_of_normal_scans() -> None:
    assert abs((draws().sum(1) == 0).mean() - 0.35) < 4 * np.sqrt(0.35 * 0.65 / COUNT)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Arterial wall calcification", "Coronary artery wall calcification"),
        ("Cardiomegaly", "Pleural effusion"),
        ("Cardiomegaly", "Pericardial effusion"),
        ("Pleural effusion", "Interlobular septal thickening"),
        ("Consolidation", "Lung opacity"),
        ("Emphysema", "Bronchiectasis"),
        ("Emphysema", "Peribronchial thickening"),
    ],
)
def test_causes_co_occur_beyond_the_share_of_normal_scans(first: str, second: str) -> None:
    abnormal = draws()[draws().sum(1) > 0].astype(float)
    a, b = (abnormal[:, CT_RATE_LABELS.index(name)] for name in (first, second))
    assert np.corrcoef(a, b)[0, 1] > 0.08


def test_own_prevalences() -> None:
    config = PhantomConfig(
        normal_share=0.2, prevalence=dict.fromkeys(CT_RATE_LABELS, 0.0) | {"Emphysema": 0.5, "Lung nodule": 0.6}
    )
    own = np.stack([sample_labels(seed, config=config) for seed in range(1500)])
    assert abs(own[:, CT_RATE_LABELS.index("Emphysema")].mean() - 0.5) < 0.06
    assert abs((own.sum(1) == 0).mean() - 0.2) < 0.05
    assert own[:, CT_RATE_LABELS.index("Cardiomegaly")].sum() == 0


def test_all_normal_and_scans_differ() -> None:
    config = PhantomConfig(prevalence=dict.fromkeys(CT_RATE_LABELS, 0.0))
    assert sample_labels(1, config=config).sum() == 0
    assert any((sample_labels(seed, 0) != sample_labels(seed, 1)).any() for seed in range(10))
