from __future__ import annotations

import math

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics import ClinicalEfficacy
from ct_vlm.metrics.functional import clinical_scores, clinical_statistics

AVERAGES = ["micro", "macro", "weighted", "samples"]
NAMES = ["precision", "recall", "f1"]
PREDICTED = [[1, 0], [0, 1], [0, 0], [1, 1]]
TRUE = [[1, 0], [1, 0], [0, 1], [0, 1]]
SCANS = ["s1", "s1", "s2", "s3"]


def random_labels(seed, p=0.1, rows=30, columns=18):
    labels = np.random.default_rng(seed).random((rows, columns)) < p
    labels[:, 3] = False
    labels[0] = False
    return labels


@pytest.mark.parametrize("zero_division", [0.0, 1.0, math.nan])
@pytest.mark.parametrize("average", AVERAGES)
def test_zero_division_equals_scikit_learn(average, zero_division):
    metrics = pytest.importorskip("sklearn.metrics")
    predictions, targets = random_labels(0), random_labels(1)
    predictions[0] = False
    expected = metrics.precision_recall_fscore_support(
        targets, predictions, average=average, zero_division=zero_division
    )[:3]
    scores = clinical_scores(predictions, targets, zero_division=zero_division)
    assert [scores[f"{average}_{name}"] for name in NAMES] == pytest.approx(expected, abs=1e-12)
    metric = ClinicalEfficacy(zero_division=zero_division)
    metric.update(predictions[:10], targets[:10])
    metric.update(predictions[10:], targets[10:])
    assert [metric.compute()[f"{average}_{name}"] for name in NAMES] == pytest.approx(expected, abs=1e-12)


def test_golden_values_with_zero_division_one(golden):
    """Values that scikit-learn 1.9.1 gave for the golden labels; one label has neither positive nor prediction."""
    labels = golden["labels"]
    scores = clinical_scores(labels["predictions"], labels["targets"], list("abcd"), zero_division=1)
    expected = {"micro": [0.75, 0.5, 0.6], "macro": [0.75, 0.5416666667, 0.6166666667], "samples": [0.9, 0.6, 0.6]}
    for average, values in expected.items():
        assert [scores[f"{average}_{name}"] for name in NAMES] == pytest.approx(values, abs=1e-9)


def test_zero_division_matters_where_reports_are_empty():
    values = [clinical_scores([[0], [1]], [[0], [1]], ["a"], zero_division=z)["samples_f1"] for z in (0, 1, math.nan)]
    assert values == [0.5, 1, 1]


def test_unknown_zero_division_is_refused():
    with pytest.raises(ConfigError, match=r"0\.5"):
        clinical_scores([[1]], [[1]], ["a"], zero_division=0.5)


@pytest.mark.parametrize(
    ("group_by", "tp", "fp", "fn"),
    [("first", 2, 1, 1), ("any", 2, 2, 1), ("mean", 1.5, 1.5, 1.5)],
)
def test_volumes_of_a_scan_are_joined(group_by, tp, fp, fn):
    scores = clinical_scores(PREDICTED, TRUE, ["a", "b"], scans=SCANS, group_by=group_by)
    assert scores["micro_precision"] == pytest.approx(tp / (tp + fp))
    assert scores["micro_recall"] == pytest.approx(tp / (tp + fn))
    assert (scores["num_samples"], scores["unit"], scores["group_by"]) == (3, "scan", group_by)


def test_volumes_are_the_unit_unless_scans_are_given():
    scores = clinical_scores(PREDICTED, TRUE, ["a", "b"])
    assert (scores["num_samples"], scores["unit"], scores["group_by"]) == (4, "volume", None)


def test_one_volume_a_scan_changes_nothing():
    predictions, targets = random_labels(0), random_labels(1)
    plain = clinical_scores(predictions, targets)
    for group_by in ("first", "any", "mean"):
        scores = clinical_scores(predictions, targets, scans=range(30), group_by=group_by)
        assert {k: v for k, v in scores.items() if k not in ("unit", "group_by")} == {
            k: v for k, v in plain.items() if k not in ("unit", "group_by")
        }


def test_a_scan_is_missing_only_if_all_its_volumes_are():
    scores = clinical_scores([[1], None, None], [[1], [1], [0]], ["a"], scans=["s", "s", "t"], group_by="any")
    assert (scores["missing_predictions"], scores["micro_recall"]) == (1, 1)


def test_scans_whose_targets_differ_are_named():
    with pytest.raises(DatasetError, match=r"1 scan\(s\) have different targets: 's2'"):
        clinical_scores([[1]] * 4, [[1], [1], [0], [1]], ["a"], scans=["s1", "s1", "s2", "s2"], group_by="any")


@pytest.mark.parametrize(
    ("scans", "group_by", "error", "message"),
    [
        (SCANS, None, ConfigError, "together"),
        (None, "any", ConfigError, "together"),
        (SCANS, "all", ConfigError, "'all'"),
        (SCANS[:3], "any", ShapeError, "4 rows, but got 3"),
        ([*SCANS[:3], None], "any", DatasetError, "row 3"),
    ],
)
def test_wrong_groups_are_refused(scans, group_by, error, message):
    with pytest.raises(error, match=message):
        clinical_scores(PREDICTED, TRUE, ["a", "b"], scans=scans, group_by=group_by)


@pytest.mark.parametrize("group_by", [None, "first", "any", "mean"])
def test_statistics_with_weight_one_give_the_scores(group_by):
    scans = None if group_by is None else [i // 2 for i in range(30)]
    predictions, targets = random_labels(0), np.repeat(random_labels(1)[::2], 2, axis=0)
    expected = clinical_scores(predictions, targets, scans=scans, group_by=group_by)
    statistics = clinical_statistics(predictions, targets, scans=scans, group_by=group_by)
    found = statistics.resample(np.ones((1, statistics.num_samples)))
    for average in AVERAGES:
        for name in NAMES:
            assert found[f"{average}_{name}"].item() == expected[f"{average}_{name}"]
    for label, scores in expected["per_label"].items():
        assert found[f"per_label/{label}/f1"].item() == scores["f1"]


def test_weights_are_copies_of_reports():
    predictions, targets = random_labels(0), random_labels(1)
    weights = np.random.default_rng(2).integers(0, 4, size=(5, 30))
    found = clinical_statistics(predictions, targets).resample(weights.astype(float))
    for row, weight in enumerate(weights):
        copies = np.repeat(np.arange(30), weight)
        expected = clinical_scores(predictions[copies], targets[copies])
        for key in ("micro_f1", "macro_precision", "weighted_recall", "samples_f1"):
            assert found[key][row] == pytest.approx(expected[key], abs=1e-12)
