from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.errors import ShapeError
from ct_vlm.metrics.functional import cider as cider_module
from ct_vlm.metrics.functional import nlg_scores, nlg_statistics
from ct_vlm.metrics.functional.ngrams import count_ngrams, number_values
from ct_vlm.metrics.functional.protocols import PROTOCOLS

COUNTED = ("bleu", "rouge", "cider")


def draws(num_reports, resamples=6):
    """Return how often each report is in each of some bootstrap resamples; the first holds each once."""
    rng = np.random.default_rng(0)
    rows = [np.bincount(rng.integers(0, num_reports, num_reports), minlength=num_reports) for _ in range(resamples)]
    rows[0] = np.ones(num_reports, dtype=int)
    rows[1][: num_reports // 2] = 0  # another size, as resampled patients give
    return np.array(rows)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "coco"])
def test_a_resample_scores_what_its_reports_score(make_reports, protocol):
    predictions, references = make_reports(0), make_reports(1)
    predictions[::3] = references[::3]
    weights = draws(len(references))
    found = nlg_statistics(predictions, references, protocol).resample(weights)
    for row, counts in enumerate(weights):
        texts = np.repeat(np.arange(len(references)), counts)
        expected = nlg_scores([predictions[i] for i in texts], [references[i] for i in texts], protocol, COUNTED)
        assert {name: values[row] for name, values in found.items()} == pytest.approx(
            {name: expected[name] for name in found}, abs=1e-11
        )


def test_resampled_cider_is_that_of_pycocoevalcap(make_reports):
    scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    predictions, references = make_reports(2), make_reports(3)
    predictions[::2] = references[::2]
    weights = draws(len(references), 4)
    found = nlg_statistics(predictions, references, "raw", ["cider"]).resample(weights)["cider"]
    for value, counts in zip(found, weights, strict=True):
        texts = np.repeat(np.arange(len(references)), counts)
        expected, hypotheses = ({n: [t[i]] for n, i in enumerate(texts)} for t in (references, predictions))
        assert value == pytest.approx(scorer.compute_score(expected, hypotheses)[0], abs=1e-10)
    assert np.ptp(found) > 0.1


def test_cider_in_parts_equals_cider_at_once(make_reports, monkeypatch):
    statistics = nlg_statistics(make_reports(0), make_reports(1), metrics=["cider"])
    weights = draws(statistics.num_samples, 7)
    at_once = statistics.resample(weights)["cider"]
    monkeypatch.setattr(cider_module, "_MAX_CELLS", 1)
    np.testing.assert_allclose(statistics.resample(weights)["cider"], at_once, rtol=1e-12)


def test_an_empty_resample_scores_nothing(golden_nlg):
    statistics = nlg_statistics(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate")
    assert {float(values[0]) for values in statistics.resample(np.zeros((1, 6))).values()} == {0.0}
    assert {len(values) for values in statistics.resample(np.zeros((0, 6))).values()} == {0}


def test_weights_are_checked(golden_nlg):
    statistics = nlg_statistics(golden_nlg["predictions"], golden_nlg["references"])
    for weights in (np.ones(6), np.ones((2, 5)), -np.ones((1, 6)), np.full((1, 6), np.nan)):
        with pytest.raises(ShapeError, match=r"\(R, 6\)"):
            statistics.resample(weights)


def test_statistics_have_a_length_and_only_what_was_asked_for(golden_nlg):
    statistics = nlg_statistics(golden_nlg["predictions"], golden_nlg["references"], metrics=["rouge"])
    assert len(statistics) == statistics.num_samples == 6
    assert list(statistics.per_report()) == list(statistics.scores()) == ["rouge_l"]


def test_rouge_is_the_mean_over_reports_and_bleu_is_not(golden_nlg):
    statistics = nlg_statistics(golden_nlg["predictions"], golden_nlg["references"])
    scores, rows = statistics.scores(), statistics.per_report()
    assert rows["rouge_l"].mean() == pytest.approx(scores["rouge_l"])
    assert rows["cider"].mean() == pytest.approx(scores["cider"])
    assert abs(rows["bleu_4"].mean() - scores["bleu_4"]) > 0.05


def test_ngrams_are_counted_in_their_report_only():
    counts = count_ngrams([["a", "b"], ["a"]], [["b", "a"], ["a", "a", "b"]])
    assert [int(order.matched.sum()) for order in counts] == [3, 0, 0, 0]
    assert [int(order.predicted.sum()) for order in counts] == [3, 1, 0, 0]
    assert [int(order.expected.sum()) for order in counts] == [5, 3, 1, 0]


@pytest.mark.parametrize("largest", [0, 9, 2**40, 2**62])
def test_numbers_are_those_of_unique(largest):
    values = np.random.default_rng(0).integers(0, largest, 50, endpoint=True).repeat(2)[::-1]
    unique, expected = np.unique(values, return_inverse=True)
    numbers, count = number_values(values)
    assert (numbers.tolist(), count) == (expected.tolist(), len(unique))
    assert number_values(values[:0])[1] == 0
