from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional import (
    CombinedStatistics,
    MeanStatistics,
    bootstrap,
    clinical_statistics,
    paired_difference,
)

SAMPLE = np.random.default_rng(5).gamma(2.0, size=60)


def means(values):
    return MeanStatistics({"mean": np.asarray(values, dtype=float)})


def clusters(seed, patients=30, size=4, spread=1.0):
    """Values that patients share for the most part, and their patients."""
    rng = np.random.default_rng(seed)
    values = spread * rng.normal(size=(patients, 1)) + 0.3 * rng.normal(size=(patients, size))
    return values.ravel(), np.repeat(np.arange(patients), size)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_a_mean_agree_with_scipy(method):
    options = {"n_resamples": 20_000, "method": method}
    found = bootstrap(means(SAMPLE), range(60), **options)["mean"]
    expected = stats.bootstrap((SAMPLE,), np.mean, **options, rng=np.random.default_rng(1))
    # three Monte-Carlo standard errors of the difference of two tail quantiles at 20,000 draws
    tolerance = 0.1 * expected.standard_error
    assert found.value == pytest.approx(SAMPLE.mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=tolerance)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.03)


def test_bca_moves_towards_the_long_tail():
    percentile, bca = (bootstrap(means(SAMPLE), range(60), method=m)["mean"] for m in ("percentile", "bca"))
    assert bca.low > percentile.low
    assert bca.high > percentile.high


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = 0
    for seed in range(300):
        values, patients = clusters(seed)
        interval = bootstrap(means(values), patients, n_resamples=200, confidence=0.9, seed=seed)["mean"]
        covered += interval.low <= 0 <= interval.high
    # 30 clusters: the percentile interval is a little narrow (about 0.88); 3 binomial standard errors
    assert covered / 300 == pytest.approx(0.88, abs=3 * math.sqrt(0.9 * 0.1 / 300))


def test_drawing_reports_instead_of_patients_gives_intervals_that_are_too_narrow():
    covered, ratio = 0, []
    for seed in range(100):
        values, patients = clusters(seed)
        by_patient = bootstrap(means(values), patients, n_resamples=200, confidence=0.9, seed=seed)["mean"]
        by_report = bootstrap(means(values), range(len(values)), n_resamples=200, confidence=0.9, seed=seed)["mean"]
        covered += by_report.low <= 0 <= by_report.high
        ratio.append(by_report.standard_error / by_patient.standard_error)
    assert covered < 75
    # with four reports that are nearly the same the standard error is half of what it should be
    assert np.mean(ratio) == pytest.approx(0.5, abs=0.1)


def test_corpus_scores_are_computed_anew_in_each_resample():
    rng = np.random.default_rng(0)
    predictions, targets = rng.random((50, 18)) < 0.3, rng.random((50, 18)) < 0.3
    patients = np.repeat(np.arange(25), 2)
    statistics = clinical_statistics(predictions, targets)
    found = bootstrap(statistics, patients, n_resamples=50, seed=3)
    draws = np.random.default_rng(3).integers(25, size=(50, 25))
    scores = []
    for draw in draws:
        rows = np.concatenate([np.flatnonzero(patients == patient) for patient in draw])
        scores.append(clinical_statistics(predictions[rows], targets[rows]).resample(np.ones((1, 50)))["macro_f1"][0])
    assert (found["macro_f1"].low, found["macro_f1"].high) == pytest.approx(np.quantile(scores, [0.025, 0.975]))


def test_blocks_do_not_change_the_result(monkeypatch):
    whole = bootstrap(means(SAMPLE), range(60), n_resamples=97, method="bca")
    monkeypatch.setattr("ct_vlm.metrics.functional.resampling._BLOCK_CELLS", 60 * 10)
    parts = bootstrap(means(SAMPLE), range(60), n_resamples=97, method="bca")
    assert parts["mean"].low == pytest.approx(whole["mean"].low)
    assert parts["mean"].high == pytest.approx(whole["mean"].high)


def test_seeds_decide_and_the_order_of_reports_does_not_move_the_value():
    first, again, other = (bootstrap(means(SAMPLE), range(60), seed=s)["mean"] for s in (1, 1, 2))
    assert first == again
    assert first.low != other.low
    assert bootstrap(means(SAMPLE[::-1]), range(60))["mean"].value == pytest.approx(first.value)


def test_scores_that_are_undefined_in_some_resamples_say_so():
    statistics = clinical_statistics([[1], [0], [0]], [[1], [0], [0]], ["a"])
    found = bootstrap(statistics, ["a", "b", "c"], n_resamples=300)["crg"]
    assert 0 < found.undefined < 300
    never = bootstrap(clinical_statistics([[0]] * 3, [[0]] * 3, ["a"]), ["a", "b", "c"], n_resamples=20)["crg"]
    assert never.to_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "standard_error": None,
        "undefined": 20,
        "p_value": None,
    }


def test_results_are_json():
    statistics = CombinedStatistics([means([0.0, 1.0, 2.0]), clinical_statistics([[0]] * 3, [[0]] * 3, ["a"])])
    found = json.loads(json.dumps(bootstrap(statistics, ["a", "b", "c"], n_resamples=10).to_dict(), allow_nan=False))
    assert found["scores"]["mean"]["value"] == 1
    assert (found["num_patients"], found["n_resamples"], found["method"]) == (3, 10, "percentile")


def test_difference_uses_the_same_resamples():
    better = means(SAMPLE + 0.1)
    found = paired_difference(better, means(SAMPLE), range(60))["mean"]
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.p_value == pytest.approx(2 / 1001)
    same = paired_difference(better, better, range(60))["mean"]
    assert (same.value, same.p_value) == (0, 1)


def test_difference_is_antisymmetric():
    other = np.random.default_rng(0).permutation(SAMPLE)
    one, two = (paired_difference(means(a), means(b), range(60))["mean"] for a, b in ((SAMPLE, other), (other, SAMPLE)))
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low))
    assert one.p_value == two.p_value


def test_p_values_of_equal_systems_are_small_no_more_often_than_they_should():
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = means(rng.normal(size=40)), means(rng.normal(size=40))
        p_values.append(paired_difference(a, b, range(40), n_resamples=200, seed=seed)["mean"].p_value)
    # nominal 0.1; the percentile bootstrap of 40 patients is slightly liberal
    assert np.mean(np.array(p_values) <= 0.1) <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 200)


@pytest.mark.parametrize(
    ("patients", "options", "error", "message"),
    [
        (["a", "b"], {}, ShapeError, "3 rows, but got 2"),
        (["a", "a", "a"], {}, DatasetError, r"1 patient\(s\)"),
        (["a", None, "b"], {}, DatasetError, "missing in row 1"),
        (["a", "b", "c"], {"method": "normal"}, ConfigError, "'normal'"),
        (["a", "b", "c"], {"confidence": 95}, ConfigError, "95"),
        (["a", "b", "c"], {"n_resamples": 1}, ConfigError, "2 resamples"),
    ],
)
def test_wrong_settings_are_refused(patients, options, error, message):
    with pytest.raises(error, match=message):
        bootstrap(means([1, 2, 3]), patients, **options)


def test_systems_of_different_reports_are_refused():
    with pytest.raises(ShapeError, match="3 reports and system B 2"):
        paired_difference(means([1, 2, 3]), means([1, 2]), ["a", "b", "c"])
