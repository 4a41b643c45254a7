from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional import Thresholds, clinical_scores, fit_thresholds, threshold_scores

NAMES = list("abc")


def data(seed, rows=60, steps=None):
    """Informative probabilities (on few values with ``steps``) and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, 3)) < 0.3
    scores = np.clip(0.3 * labels + 0.7 * rng.random((rows, 3)), 0, 1)
    return (np.round(scores * steps) / steps if steps else scores), labels.astype(float)


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("seed", range(2))
def test_no_threshold_has_a_higher_f1(seed, steps):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = data(seed, steps=steps)
    found = fit_thresholds(scores, labels, NAMES, split="calibration")
    for k, value in enumerate(found.values):
        tried = {float(t): metrics.f1_score(labels[:, k], scores[:, k] >= t) for t in np.unique(scores[:, k])}
        best = max(tried.values())
        assert metrics.f1_score(labels[:, k], found.apply(scores)[:, k]) == pytest.approx(best, abs=1e-12)
        assert value == max(t for t, f1 in tried.items() if f1 >= best - 1e-12)


@pytest.mark.parametrize("steps", [None, 5])
def test_youden_equals_the_top_of_the_roc_curve(steps):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = data(1, steps=steps)
    found = fit_thresholds(scores, labels, NAMES, split="calibration", method="youden")
    for k, value in enumerate(found.values):
        fpr, tpr, cuts = metrics.roc_curve(labels[:, k], scores[:, k], drop_intermediate=False)
        best = (tpr - fpr).max()
        assert value == max(c for c, j in zip(cuts, tpr - fpr, strict=True) if j >= best - 1e-12)


def test_fixed_is_half():
    scores, labels = data(0)
    assert fit_thresholds(scores, labels, NAMES, split="x", method="fixed").values == (0.5,) * 3


def test_ties_take_the_highest_threshold():
    # calling one positive or all four has F1 = 2/3 alike
    found = fit_thresholds([[0.9], [0.3], [0.2], [0.1]], [[1], [0], [0], [1]], ["a"], split="x")
    assert found.values == (0.9,)


def test_labels_of_one_class_keep_half_and_are_named():
    scores, labels = data(0)
    labels[:, 0], labels[:, 1] = 0, 1
    found = fit_thresholds(scores, labels, NAMES, split="x")
    assert found.values[:2] == (0.5, 0.5)
    assert found.fallback == ("a", "b")


def test_unknown_labels_are_left_out():
    scores, labels = data(0)
    masked = labels.copy()
    masked[::2, 0] = math.nan
    found = fit_thresholds(scores, masked, NAMES, split="x")
    assert found.values[0] == fit_thresholds(scores[1::2], labels[1::2], NAMES, split="x").values[0]


def test_scores_at_thresholds_have_the_fixed_ones_beside_them():
    fitted = fit_thresholds(*data(0), NAMES, split="train/calibration")
    scores, labels = data(1)
    found = threshold_scores(scores, labels, fitted)
    assert found["scores"] == clinical_scores(fitted.apply(scores), labels, NAMES)
    assert found["fixed"] == clinical_scores(scores >= 0.5, labels, NAMES)
    assert (found["split"], found["method"], found["oracle"]) == ("train/calibration", "f1", False)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["as fitted", "reversed"])
def test_the_evaluated_data_are_refused_unless_named_oracle(order):
    scores, labels = data(0)
    with pytest.raises(DatasetError, match=r"'calibration' .* very data"):
        threshold_scores(scores[order], labels[order], fit_thresholds(scores, labels, NAMES, split="calibration"))
    oracle = fit_thresholds(scores, labels, NAMES, split="oracle")
    assert threshold_scores(scores[order], labels[order], oracle)["oracle"] is True
    with pytest.raises(DatasetError, match="other data"):
        threshold_scores(*data(1), oracle)


def test_patients_of_the_calibration_split_are_named():
    fitted = fit_thresholds(*data(0), NAMES, split="calibration", patients=[f"p{i // 2}" for i in range(60)])
    assert len(fitted.patients) == 30
    threshold_scores(*data(1), fitted, patients=[f"q{i}" for i in range(60)])
    with pytest.raises(DatasetError, match=r"1 patient\(s\) of split 'calibration' .* 'p3'"):
        threshold_scores(*data(1), fitted, patients=["p3", *range(59)])


def test_thresholds_survive_a_file(tmp_path):
    fitted = fit_thresholds(*data(0), NAMES, split="calibration", patients=range(60))
    fitted.save(tmp_path / "thresholds.json")
    assert Thresholds.load(tmp_path / "thresholds.json") == fitted
    with pytest.raises(ConfigError, match="thresholds"):
        Thresholds.from_dict({"values": [1]})


@pytest.mark.parametrize(
    ("scores", "labels", "options", "error", "message"),
    [
        ([[1.2]], [[1]], {}, DatasetError, "1.2 in row 0"),
        ([[math.nan]], [[1]], {}, DatasetError, "nan in row 0"),
        ([[0.2]], [[2]], {}, DatasetError, "`labels` holds 2"),
        ([[0.2]], [[1], [0]], {}, ShapeError, "1 and 2"),
        ([], [], {}, DatasetError, "no rows"),
        ([[0.2]], [[1]], {"method": "best"}, ConfigError, "'best'"),
        ([[0.2]], [[1]], {"split": ""}, ConfigError, "split"),
    ],
)
def test_malformed_input_is_refused(scores, labels, options, error, message):
    with pytest.raises(error, match=message):
        fit_thresholds(scores, labels, ["a"], **{"split": "x", **options})
