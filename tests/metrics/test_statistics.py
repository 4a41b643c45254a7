from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional import CombinedStatistics, MeanStatistics, clinical_statistics, crg_score
from ct_vlm.metrics.functional.statistics import Statistics, concatenate


def labels(seed, rows=20):
    return np.random.default_rng(seed).random((rows, 18)) < 0.3


def test_crg_of_a_resample_is_that_of_its_copies():
    predictions, targets = labels(0), labels(1)
    weights = np.random.default_rng(2).integers(0, 3, size=(4, 20))
    found = clinical_statistics(predictions, targets).resample(weights.astype(float))["crg"]
    copies = [np.repeat(np.arange(20), weight) for weight in weights]
    assert found == pytest.approx([crg_score(predictions[c], targets[c])["crg"] for c in copies], abs=1e-12)


def test_crg_is_nan_in_a_resample_without_a_positive():
    statistics = clinical_statistics([[1], [0]], [[1], [0]], ["a"])
    found = statistics.resample(np.array([[1.0, 1.0], [0.0, 2.0]]))["crg"]
    assert found[0] == 1
    assert np.isnan(found[1])


def test_means_leave_unknown_values_out():
    found = MeanStatistics({"x": np.array([1.0, np.nan, 4.0])}).resample(np.array([[1.0, 5.0, 2.0], [0, 1, 0]]))["x"]
    assert found[0] == 3
    assert np.isnan(found[1])


def test_all_kinds_are_statistics():
    parts = [clinical_statistics(labels(0), labels(1)), MeanStatistics({"x": np.ones(20)})]
    assert all(isinstance(part, Statistics) for part in [*parts, CombinedStatistics(parts)])


def test_parts_must_be_of_the_same_reports_and_have_own_names():
    one, other = MeanStatistics({"x": np.ones(3)}), MeanStatistics({"x": np.ones(2)})
    with pytest.raises(ShapeError, match=r"\[3, 2\]"):
        CombinedStatistics([one, other])
    with pytest.raises(ConfigError, match=r"\['x'\]"):
        CombinedStatistics([one, one]).resample(np.ones((1, 3)))
    with pytest.raises(ShapeError, match="one length"):
        MeanStatistics({"x": np.ones(2), "y": np.ones(3)})


def test_joined_statistics_hold_the_rows_of_both():
    first = CombinedStatistics([clinical_statistics(labels(0), labels(1)), MeanStatistics({"x": np.arange(20.0)})])
    second = CombinedStatistics([clinical_statistics(labels(2), labels(3)), MeanStatistics({"x": np.zeros(20)})])
    joined = concatenate(first, second)
    assert joined.num_samples == 40
    both = clinical_statistics(np.concatenate([labels(0), labels(2)]), np.concatenate([labels(1), labels(3)]))
    found = joined.resample(np.ones((1, 40)))
    assert found["macro_f1"] == pytest.approx(both.resample(np.ones((1, 40)))["macro_f1"])
    assert found["x"].item() == np.arange(20).sum() / 40


def test_kinds_do_not_mix():
    with pytest.raises(DatasetError, match="ClinicalStatistics and MeanStatistics"):
        concatenate(clinical_statistics(labels(0), labels(1)), MeanStatistics({"x": np.ones(20)}))
