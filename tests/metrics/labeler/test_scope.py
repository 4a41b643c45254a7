"""The parts that decide how far a cue and a place reach."""

from __future__ import annotations

import pytest

from ct_vlm.metrics.labeler.doubt import find_doubt
from ct_vlm.metrics.labeler.normalise import list_item
from ct_vlm.metrics.labeler.rules import words


@pytest.mark.parametrize(
    ("clause", "word", "item"),
    [
        ("plaques in the coronary arteries", "plaques", "plaques in the coronary arteries"),
        ("wide aorta, plaques in the coronary arteries", "plaques", "plaques in the coronary arteries"),
        ("plaques in the coronary arteries, arch and branches", "plaques", None),
        ("nodules in the thyroid, atelectasis in both lungs", "nodules", "nodules in the thyroid"),
        ("nodules in the thyroid and atelectasis in both lungs", "atelectasis", "atelectasis in both lungs"),
        ("right lung, left lung, nodules", "nodules", None),
    ],
)
def test_list_item(clause, word, item):
    assert list_item(clause, clause.index(word)) == (clause if item is None else item)


@pytest.mark.parametrize(
    ("clause", "doubt"),
    [
        ("x?", "?"),
        ("x in both lungs?", "?"),
        ("x in the upper lobes of both lungs, y?", ""),
        ("may be x", "may"),
        ("x may be infectious", ""),
        ("x may be present", "may be present"),
        ("x unexcluded", "unexcluded"),
        ("probable cyst, x is seen", "probable"),
        ("possible nodule, x effusion", ""),
        ("x is seen", ""),
    ],
)
def test_doubt(clause, doubt):
    start = clause.index("x")
    assert find_doubt(clause, start, start + 1) == doubt


@pytest.mark.parametrize("text", ["the cat sat", "a concat", "dog", "dogs", "hotdog", "x|y", "fox]"])
def test_a_shared_boundary_means_the_same(text):
    patterns = (r"\bcat\b", r"\bdog(?:s|\b)", r"\bfo(?:x|[|)y])\b")
    found = words(*patterns).search(text)
    assert (found is not None) == any(words(pattern).search(text) for pattern in patterns)


def test_a_boundary_of_some_alternatives_is_not_shared():
    assert words(r"\bcat", "dog").search("hotdog") is not None
    assert words(r"\bcat", "dog").search("concat") is None
