from __future__ import annotations

import math

import numpy as np
import pytest

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics.functional import bootstrap, classifier_scores, classifier_statistics, paired_difference

NAMES = list("abc")


def data(seed=0, rows=40, steps=None):
    rng = np.random.default_rng(seed)
    labels = (rng.random((rows, 3)) < 0.4).astype(float)
    scores = np.clip(0.2 * labels + 0.8 * rng.random((rows, 3)), 0, 1)
    return (np.round(scores * steps) / steps if steps else scores), labels


@pytest.mark.parametrize("steps", [None, 4])
def test_weighted_scores_equal_scikit_learn(steps):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = data(steps=steps)
    weights = np.random.default_rng(1).integers(0, 4, size=(6, 40)).astype(float)
    found = classifier_statistics(scores, labels, NAMES).resample(weights)
    for k, name in enumerate(NAMES):
        for row, weight in enumerate(weights):
            arguments = (labels[:, k], scores[:, k])
            auroc = metrics.roc_auc_score(*arguments, sample_weight=weight)
            average = metrics.average_precision_score(*arguments, sample_weight=weight)
            assert found[f"per_label/{name}/auroc"][row] == pytest.approx(auroc, abs=1e-12)
            assert found[f"per_label/{name}/average_precision"][row] == pytest.approx(average, abs=1e-12)


@pytest.mark.parametrize("steps", [None, 4])
def test_weights_of_one_give_the_plain_scores(steps):
    scores, labels = data(steps=steps)
    labels[:, 2] = 0
    labels[::3, 0] = math.nan
    expected = classifier_scores(scores, labels, NAMES)
    found = classifier_statistics(scores, labels, NAMES).resample(np.ones((1, 40)))
    assert found["macro_auroc"].item() == pytest.approx(expected["macro_auroc"], abs=1e-6)
    assert found["macro_average_precision"].item() == pytest.approx(expected["macro_average_precision"], abs=1e-6)
    assert expected["skipped"] == ["c"]
    assert math.isnan(found["per_label/c/auroc"].item())


def test_intervals_and_differences():
    scores, labels = data()
    statistics = classifier_statistics(scores, labels, NAMES)
    found = bootstrap(statistics, [i // 2 for i in range(40)], n_resamples=200)["macro_auroc"]
    assert found.low < found.value < found.high
    perfect = classifier_statistics(labels, labels, NAMES)
    assert paired_difference(perfect, statistics, range(40), n_resamples=200)["macro_auroc"].low > 0


def test_labels_that_nobody_knows_have_no_score():
    found = classifier_statistics([[0.5]], [[math.nan]], ["a"]).resample(np.ones((2, 1)))
    assert np.isnan(found["macro_auroc"]).all()


def test_malformed_input_is_named():
    with pytest.raises(DatasetError, match=r"1\.5 in row 0"):
        classifier_statistics([[1.5]], [[1]], ["a"])
    with pytest.raises(ShapeError, match="1 and 2"):
        classifier_statistics([[0.5]], [[1], [0]], ["a"])
