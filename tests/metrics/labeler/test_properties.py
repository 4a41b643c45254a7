"""What must hold for any report, on reports put together from the tables' sentences."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ct_vlm.metrics import RuleLabeler
from ct_vlm.text.sections import join_sections


@pytest.fixture(scope="module")
def reports(free_sentences):
    rng = np.random.default_rng(0)
    return [list(rng.choice(free_sentences, rng.integers(1, 12), replace=False)) for _ in range(60)]


def test_most_sentences_stand_alone(sentences, free_sentences):
    assert len(free_sentences) > 0.8 * len(sentences)


def test_order_of_sentences_changes_nothing(labeler, reports):
    rng = np.random.default_rng(1)
    shuffled = [rng.permutation(report) for report in reports]
    np.testing.assert_array_equal(labeler([" ".join(r) for r in reports]), labeler([" ".join(r) for r in shuffled]))


def test_saying_it_twice_changes_nothing(labeler, reports):
    np.testing.assert_array_equal(labeler([" ".join(r) for r in reports]), labeler([" ".join(r + r) for r in reports]))


def test_two_reports_together_have_the_labels_of_both(labeler, reports):
    one, other = ([" ".join(r) for r in half] for half in (reports[::2], reports[1::2]))
    together = labeler([f"{a} {b}" for a, b in zip(one, other, strict=True)])
    np.testing.assert_array_equal(together, labeler(one) | labeler(other))


def test_sections_together_have_the_labels_of_both(labeler, reports):
    findings, impressions = ([" ".join(r) for r in half] for half in (reports[::2], reports[1::2]))
    together = labeler([join_sections(f, i) for f, i in zip(findings, impressions, strict=True)])
    np.testing.assert_array_equal(together, labeler(findings) | labeler(impressions))


def test_a_normal_sentence_in_between_changes_nothing(labeler, reports):
    normal = " The lungs are well aerated. "
    np.testing.assert_array_equal(labeler([normal.join(r) for r in reports]), labeler([" ".join(r) for r in reports]))


def test_line_ends_and_case_change_nothing(labeler, reports):
    expected = labeler([" ".join(r) for r in reports])
    np.testing.assert_array_equal(labeler(["\n".join(r) for r in reports]), expected)
    np.testing.assert_array_equal(labeler(["  ".join(r).upper() for r in reports]), expected)
    np.testing.assert_array_equal(labeler([" ".join(r).lower() for r in reports]), expected)


def test_each_report_is_labelled_alone(labeler, reports):
    texts = [" ".join(r) for r in reports]
    np.testing.assert_array_equal(labeler(texts), np.concatenate([RuleLabeler()([text]) for text in texts]))


def test_threads_share_a_labeler(reports):
    texts = [" ".join(r) for r in reports] * 3
    shared = RuleLabeler()
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(shared, texts))
    np.testing.assert_array_equal(np.concatenate(rows), RuleLabeler()(texts))


def test_a_labeler_travels_to_other_processes(reports):
    texts = [" ".join(r) for r in reports]
    for made in (RuleLabeler(), RuleLabeler("nan", extra={"Emphysema": ["aeration"]}, without=["nodule"])):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(made))(texts), made(texts))


def test_explanation_decides_as_the_labels_do(reports):
    for uncertain in ("positive", "negative", "nan"):
        labeler = RuleLabeler(uncertain)
        for report in reports[:30]:
            text = " ".join(report)
            decided = [decision.value for decision in labeler.explain(text).values()]
            np.testing.assert_array_equal(decided, labeler(text)[0])
