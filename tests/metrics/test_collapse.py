from __future__ import annotations

from ct_vlm.metrics.functional import collapse_scores


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
