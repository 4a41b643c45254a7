from __future__ import annotations

import math

import numpy as np
import pytest

from ct_vlm.errors import ShapeError
from ct_vlm.metrics import CRGScore
from ct_vlm.metrics.functional import crg_score


@pytest.fixture(params=[0, 1, 2])
def targets(request):
    return (np.random.default_rng(request.param).random((25, 18)) < 0.2).astype(int)


@pytest.mark.parametrize(
    ("predict", "expected"),
    [
        (lambda t: t, 1),
        (lambda t: 0 * t, 1 / 3),
        (lambda t: 0 * t + 1, 1 / 3),
        (lambda t: 1 - t, 1 / 5),
    ],
    ids=["perfect", "all negative", "all positive", "all wrong"],
)
def test_fixed_points(targets, predict, expected):
    assert crg_score(predict(targets), targets)["crg"] == pytest.approx(expected, abs=1e-12)


def test_golden_counts(golden):
    """Cells laid out so that the counts are those of the published example."""
    target = [[1] * 6 + [0] * 14]
    prediction = [[1] * 3 + [0] * 3 + [1] + [0] * 13]
    scores = crg_score(prediction, target)
    assert scores["crg"] == pytest.approx(golden["labels"]["crg"], abs=1e-12)
    assert {k: scores[k] for k in golden["labels"]["crg_counts"]} == golden["labels"]["crg_counts"]


def test_unknown_cells_are_left_out():
    assert crg_score([[1, 1]], [[1, math.nan]])["cells"] == 1


def test_undefined_without_a_positive():
    assert math.isnan(crg_score([[0, 0]], [[0, 0]])["crg"])


def test_missing_predictions_count_as_negative():
    assert crg_score([[1, 0], None], [[1, 0], [0, 1]]) == crg_score([[1, 0], [0, 0]], [[1, 0], [0, 1]])


@pytest.mark.parametrize("targets", [[[0, 1], [1, 0]], [0, 1], [None]])
def test_sizes_must_agree(targets):
    with pytest.raises(ShapeError):
        crg_score([[0, 1]], targets)


def test_a_row_of_unknown_targets_may_come_first():
    assert crg_score([[1, 1], [1, 0]], [None, [1, 0]]) == {
        "crg": 1.0,
        "tp": 1,
        "fn": 0,
        "fp": 0,
        "positives": 1,
        "cells": 2,
    }


def test_the_class_equals_the_function_and_merges(targets):
    predictions = np.roll(targets, 1, axis=0)
    halves = [CRGScore(), CRGScore()]
    for rank, metric in enumerate(halves):
        metric.update(predictions[rank::2], targets[rank::2])
    halves[0].merge_state(halves[1])
    assert halves[0].compute() == crg_score(predictions, targets)
