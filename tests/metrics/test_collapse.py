from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ct_vlm.errors import DatasetError
from ct_vlm.metrics.functional import collapse_scores, label_set_entropy


def test_counts_distinct_reports():
    scores = collapse_scores(["A b.", "a  B.", "c", "a b.", None])
    assert scores == {
        "distinct_reports": 3,
        "distinct_share": 0.6,
        "most_frequent_share": 0.6,
        "most_frequent_report": "A b.",
    }


def test_all_different():
    scores = collapse_scores([str(i) for i in range(10)])
    assert (scores["distinct_reports"], scores["distinct_share"], scores["most_frequent_share"]) == (10, 1, 0.1)


def test_no_reports():
    assert collapse_scores([])["distinct_reports"] == 0


def test_entropy_of_label_sets_equals_scipy():
    labels = np.random.default_rng(0).integers(0, 2, size=(50, 3))
    _, counts = np.unique(labels, axis=0, return_counts=True)
    assert label_set_entropy(labels) == pytest.approx(stats.entropy(counts, base=2))


def test_entropy_knows_its_ends():
    assert label_set_entropy([[1, 0]] * 8) == 0
    assert label_set_entropy(np.eye(8)) == 3
    assert label_set_entropy([]) == 0


def test_collapse_of_findings_shows_beside_the_references():
    reports = [f"Report {i}." for i in range(8)]
    scores = collapse_scores(reports, [[1, 0, 0]] * 8, [[i & 1, i >> 1 & 1, i >> 2] for i in range(8)])
    assert scores["distinct_share"] == 1
    assert (scores["distinct_label_sets"], scores["label_set_entropy"]) == (1, 0)
    assert (scores["reference_distinct_label_sets"], scores["reference_label_set_entropy"]) == (8, 3)
    assert scores["label_set_entropy_limit"] == 3


def test_malformed_labels_are_named():
    with pytest.raises(DatasetError, match=r"0\.5 in row 1"):
        collapse_scores(["a", "b"], [[0], [0.5]])
