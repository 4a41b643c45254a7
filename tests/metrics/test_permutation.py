from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional import (
    MeanStatistics,
    clinical_scores,
    clinical_statistics,
    nlg_statistics,
    permutation_test,
)

RNG = np.random.default_rng(3)
A, B = RNG.normal(0.3, 1, size=10), RNG.normal(size=10)


def means(values):
    return MeanStatistics({"mean": np.asarray(values, dtype=float)})


def scipy_p(a, b, n_resamples):
    return stats.permutation_test(
        (a, b),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        rng=np.random.default_rng(0),
    ).pvalue


def test_exact_test_equals_scipy():
    found = permutation_test(means(A), means(B), range(10))
    assert (found.exact, found.n_permutations) == (True, 1024)
    assert found.p_values["mean"] == pytest.approx(scipy_p(A, B, np.inf), abs=1e-12)


def test_random_test_agrees_with_scipy():
    a, b = RNG.normal(0.3, 1, size=60), RNG.normal(size=60)
    found = permutation_test(means(a), means(b), range(60), n_permutations=20_000)
    assert (found.exact, found.n_permutations) == (False, 20_000)
    assert found.p_values["mean"] == pytest.approx(scipy_p(a, b, 20_000), abs=0.015)


def test_reports_of_a_patient_are_swapped_together():
    """Copies of the same ten pairs are no new evidence."""
    copies = np.repeat(np.arange(10), 5)
    found = permutation_test(means(A[copies]), means(B[copies]), copies)
    assert found.p_values["mean"] == permutation_test(means(A), means(B), range(10)).p_values["mean"]
    assert permutation_test(means(A[copies]), means(B[copies]), range(50)).p_values["mean"] < found.p_values["mean"]


def test_corpus_scores_are_computed_anew():
    rng = np.random.default_rng(0)
    a, b, truth = (rng.random((4, 6)) < p for p in (0.4, 0.5, 0.5))
    names = list("abcdef")
    found = permutation_test(clinical_statistics(a, truth, names), clinical_statistics(b, truth, names), range(4))
    differences = []
    for way in range(16):
        swap = np.array([way >> i & 1 for i in range(4)], dtype=bool)[:, None]
        one, two = np.where(swap, b, a), np.where(swap, a, b)
        differences.append(
            clinical_scores(one, truth, names)["macro_f1"] - clinical_scores(two, truth, names)["macro_f1"]
        )
    assert found.differences["macro_f1"] == pytest.approx(differences[0])
    assert found.p_values["macro_f1"] == np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)


def test_equal_systems():
    assert permutation_test(means(A), means(A), range(10)).p_values["mean"] == 1


def test_undefined_scores_have_no_p_value():
    statistics = clinical_statistics([[0]] * 3, [[0]] * 3, ["a"])
    found = permutation_test(statistics, statistics, range(3))
    assert found.p_values["crg"] is None
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["differences"]["crg"] is None


def test_pooled_statistics_serve_kinds_that_cannot_be_joined():
    truths = ["No nodule.", "A nodule is seen.", "Heart size increased.", "Pleural effusion."]
    a, b = [*truths[:3], "Nothing."], ["Normal.", "A nodule is seen.", "Heart is normal.", "Pleural effusion."]
    systems = nlg_statistics(a, truths), nlg_statistics(b, truths)
    with pytest.raises(DatasetError, match="`pooled`"):
        permutation_test(*systems, range(4))
    found = permutation_test(*systems, range(4), pooled=nlg_statistics(a + b, truths * 2))
    rouge = [MeanStatistics({"rouge_l": system.per_report()["rouge_l"]}) for system in systems]
    assert found.p_values["rouge_l"] == permutation_test(*rouge, range(4)).p_values["rouge_l"]
    assert found.differences["bleu_1"] == pytest.approx(systems[0].scores()["bleu_1"] - systems[1].scores()["bleu_1"])
    with pytest.raises(ShapeError, match="8 reports, but it has 4"):
        permutation_test(*systems, range(4), pooled=systems[0])


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match="10 reports and system B 3"):
        permutation_test(means(A), means([1, 2, 3]), range(10))
    with pytest.raises(DatasetError, match="0 reports"):
        permutation_test(means([]), means([]), [])
    with pytest.raises(ConfigError, match="0 permutations"):
        permutation_test(means(A), means(B), range(10), n_permutations=0)
