from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics import ClinicalEfficacy, RuleLabeler
from ct_vlm.metrics.functional import clinical_scores
from ct_vlm.text.labels import CT_RATE_LABELS

AVERAGES = ["micro", "macro", "weighted", "samples"]
NAMES4 = list("abcd")
REPORTS = ["Heart size increased.", "Pleural effusion is seen. A nodule is seen.", "Normal."]


def random_labels(seed, rows=40, columns=18, p=0.2):
    return np.random.default_rng(seed).random((rows, columns)) < p


def triple(scores, average):
    return [scores[f"{average}_{name}"] for name in ("precision", "recall", "f1")]


def test_golden_values(golden):
    labels = golden["labels"]
    scores = clinical_scores(labels["predictions"], labels["targets"], NAMES4)
    for average in AVERAGES:
        assert triple(scores, average) == pytest.approx(labels["scores"][average], abs=1e-12)
    assert scores["per_label"]["a"] == pytest.approx(
        {"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3, "tp": 2, "fp": 0, "tn": 2, "fn": 1}
    )
    assert scores["zero_division"] == 0


@pytest.mark.parametrize("zero_division", [0, 1])
def test_golden_values_of_both_conventions(golden, zero_division):
    labels = golden["labels"]
    scores = clinical_scores(labels["predictions"], labels["targets"], NAMES4, zero_division=zero_division)
    expected = labels["scores_zero_division_1" if zero_division else "scores"]
    for average in AVERAGES:
        assert triple(scores, average) == pytest.approx(expected[average], abs=1e-12)
    for name, values in labels["per_label"][str(zero_division)].items():
        assert [scores["per_label"][label][name] for label in NAMES4] == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("zero_division", [0, 1, math.nan])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn(average, seed, zero_division):
    metrics = pytest.importorskip("sklearn.metrics")
    predictions, targets = random_labels(seed), random_labels(seed + 10)
    targets[:, 3] = False
    predictions[:, 4] = False
    targets[0] = predictions[0] = False
    found = triple(clinical_scores(predictions, targets, zero_division=zero_division), average)
    expected = metrics.precision_recall_fscore_support(
        targets, predictions, average=average, zero_division=zero_division
    )
    assert found == pytest.approx(expected[:3], abs=1e-12, nan_ok=True)


def test_per_label_scores_equal_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    predictions, targets = random_labels(0), random_labels(1)
    expected = metrics.precision_recall_fscore_support(targets, predictions, average=None, zero_division=0)
    found = clinical_scores(predictions, targets)["per_label"]
    for column, name in enumerate(CT_RATE_LABELS):
        keys = ("precision", "recall", "f1", "support")
        assert [found[name][key] for key in keys] == pytest.approx([values[column] for values in expected], abs=1e-12)
        cells = metrics.confusion_matrix(targets[:, column], predictions[:, column], labels=[0, 1]).ravel()
        assert [found[name][key] for key in ("tn", "fp", "fn", "tp")] == list(cells)


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list, lambda v: torch.tensor(v).bool()])
def test_any_kind_of_matrix(golden, kind):
    labels = golden["labels"]
    expected = clinical_scores(labels["predictions"], labels["targets"], NAMES4)
    assert clinical_scores(kind(labels["predictions"]), kind(labels["targets"]), NAMES4) == expected


def test_missing_predictions_count_as_negative():
    targets = [[1, 0], [1, 1]]
    scores = clinical_scores([[1, 0], None], targets, ["a", "b"])
    negative = clinical_scores([[1, 0], [0, 0]], targets, ["a", "b"])
    assert (scores["coverage"], scores["missing_predictions"]) == (0.5, 1)
    assert negative["coverage"] == 1
    assert all(triple(scores, a) == triple(negative, a) for a in AVERAGES)


def test_unknown_targets_are_left_out():
    nan = math.nan
    scores = clinical_scores([[1, 1], [0, 1], [1, 1]], [[1, nan], [1, 0], [nan, nan]], ["a", "b"])
    assert scores["micro_precision"] == 0.5  # one true, one false positive among known cells
    assert scores["micro_recall"] == 0.5
    assert scores["samples_f1"] == 0.5  # of the two reports with a known label
    assert scores["ignored_targets"] == 3
    assert scores["num_samples"] == 3


def test_order_of_the_reports_changes_nothing():
    predictions, targets = random_labels(0), random_labels(1)
    order = np.random.default_rng(2).permutation(len(targets))
    scores, shuffled = clinical_scores(predictions, targets), clinical_scores(predictions[order], targets[order])
    assert [triple(shuffled, a) for a in AVERAGES] == [pytest.approx(triple(scores, a), abs=1e-12) for a in AVERAGES]


def test_perfect_and_silent_predictions():
    targets = random_labels(0)
    targets[:, 0] = True
    perfect, silent = clinical_scores(targets, targets), clinical_scores(np.zeros_like(targets), targets)
    assert [perfect[f"{a}_f1"] for a in AVERAGES] == pytest.approx([1, 1, 1, 1])
    assert [silent[f"{a}_f1"] for a in AVERAGES] == [0, 0, 0, 0]


def test_no_reports():
    scores = clinical_scores([], [])
    assert (scores["num_samples"], scores["coverage"], scores["macro_f1"]) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("predictions", "targets", "error", "message"),
    [
        ([[1, 0]], [[1, 0], [0, 1]], ShapeError, "1 and 2"),
        ([[1, 0, 0]], [[1, 0]], ShapeError, "`predictions`"),
        ([[1, 0]], [[1]], ShapeError, "`targets`"),
        ([[1, 0], [0.5, 0]], [[1, 0], [0, 1]], DatasetError, "0.5 in row 1, column 0"),
        ([[1, 0]], [[2, 0]], DatasetError, "`targets` holds 2"),
        ([["x", 0]], [[1, 0]], DatasetError, "numbers"),
    ],
)
def test_malformed_labels_are_named(predictions, targets, error, message):
    with pytest.raises(error, match=message):
        clinical_scores(predictions, targets, ["a", "b"])


def test_the_class_equals_the_function():
    predictions, targets = random_labels(0), random_labels(1)
    metric = ClinicalEfficacy()
    for rows in (slice(0, 7), slice(7, 40)):
        metric.update(predictions[rows], targets[rows])
    scores = metric.compute()
    assert (scores.pop("labeler"), scores.pop("target_labeler")) == ("given", "given")
    expected = clinical_scores(predictions, targets)
    assert scores["per_label"] == expected["per_label"]
    assert [triple(scores, a) for a in AVERAGES] == [pytest.approx(triple(expected, a)) for a in AVERAGES]


def test_reports_are_labelled_and_the_labeler_is_named():
    targets = RuleLabeler()(REPORTS)
    metric = ClinicalEfficacy()
    metric.update([*REPORTS[:2], None], targets)
    scores = metric.compute()
    assert (scores["labeler"], scores["target_labeler"]) == ("rules", "given")
    assert scores["micro_f1"] == 1
    assert scores["coverage"] == pytest.approx(2 / 3)
    metric.update(["Consolidation."], ["Emphysema."])
    assert metric.compute()["target_labeler"] == "rules and given"


def test_any_callable_labels():
    class Keyword:
        name = "keyword"

        def __call__(self, texts):
            return torch.tensor([["heart" in text, "nodule" in text] for text in texts])

    metric = ClinicalEfficacy(Keyword(), label_names=["heart", "nodule"])
    metric.update(["a heart"], [[1, 1]])
    scores = metric.compute()
    assert (scores["labeler"], scores["micro_recall"]) == ("keyword", 0.5)


def test_states_of_two_processes_add_up():
    predictions, targets = random_labels(0), random_labels(1)
    halves, whole = [ClinicalEfficacy(), ClinicalEfficacy()], ClinicalEfficacy()
    whole.update(predictions, targets)
    for rank, metric in enumerate(halves):
        metric.update(predictions[rank::2], targets[rank::2])
    halves[0].merge_state(halves[1])
    merged, expected = halves[0].compute(), whole.compute()
    assert merged["per_label"] == expected["per_label"]
    assert merged["samples_f1"] == pytest.approx(expected["samples_f1"])
    assert merged["num_samples"] == 40


def test_half_precision_leaves_counts_alone():
    metric = ClinicalEfficacy().half()
    metric.update(random_labels(0), random_labels(1))
    assert metric.compute()["per_label"] == clinical_scores(random_labels(0), random_labels(1))["per_label"]
