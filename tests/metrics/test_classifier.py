from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics import ClassifierScores
from ct_vlm.metrics.functional import classifier_scores
from ct_vlm.text.labels import CT_RATE_LABELS


def sample(seed=0, rows=60):
    rng = np.random.default_rng(seed)
    return rng.random((rows, 18)).round(2), (rng.random((rows, 18)) < 0.3).astype(float)


def test_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    probabilities, targets = sample()
    scores = classifier_scores(probabilities, targets)
    aurocs = [metrics.roc_auc_score(targets[:, k], probabilities[:, k]) for k in range(18)]
    precisions = [metrics.average_precision_score(targets[:, k], probabilities[:, k]) for k in range(18)]
    assert [v["auroc"] for v in scores["per_label"].values()] == pytest.approx(aurocs, abs=1e-6)
    assert scores["macro_auroc"] == pytest.approx(np.mean(aurocs), abs=1e-6)
    assert scores["macro_average_precision"] == pytest.approx(np.mean(precisions), abs=1e-6)


def test_labels_of_one_class_are_skipped_and_listed():
    probabilities, targets = sample()
    targets[:, 2], targets[:, 5] = 0, 1
    scores = classifier_scores(probabilities, targets)
    assert scores["skipped"] == [CT_RATE_LABELS[2], CT_RATE_LABELS[5]]
    assert len(scores["per_label"]) == 16
    assert scores["macro_auroc"] == pytest.approx(np.mean([v["auroc"] for v in scores["per_label"].values()]))


def test_unknown_targets_are_left_out():
    scores = classifier_scores([[0.1], [0.9], [0.95]], [[0], [1], [math.nan]], ["a"])
    assert scores["macro_auroc"] == 1
    assert scores["per_label"]["a"]["support"] == 1


def test_nothing_to_score_is_nan():
    scores = classifier_scores([[0.1]], [[1]], ["a"])
    assert math.isnan(scores["macro_auroc"])
    metric = ClassifierScores(["a"])
    metric.update([], [])
    assert metric.compute()["num_samples"] == 0


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan])
def test_what_is_no_probability_is_named(value):
    with pytest.raises(DatasetError, match="row 1"):
        classifier_scores([[0.5], [value]], [[0], [1]], ["a"])


def test_sizes_must_agree():
    with pytest.raises(ShapeError, match="1 and 2"):
        classifier_scores([[0.5]], [[0], [1]], ["a"])


def test_the_class_equals_the_function_and_merges():
    probabilities, targets = map(torch.tensor, sample())
    halves = [ClassifierScores(), ClassifierScores()]
    for rank, metric in enumerate(halves):
        metric.update(probabilities[rank::2], targets[rank::2])
    halves[0].merge_state(halves[1])
    expected = classifier_scores(probabilities, targets)
    assert halves[0].compute()["macro_auroc"] == pytest.approx(expected["macro_auroc"], abs=1e-6)
