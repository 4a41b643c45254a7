from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics.functional.inputs import (
    as_groups,
    as_predicted_texts,
    as_reference_texts,
    check_unique,
    match_ids,
)


def test_ids_are_matched_in_the_order_of_the_references():
    assert match_ids(["c", "a"], ["a", "b", "c"]) == [1, None, 0]
    assert match_ids([], ["a"]) == [None]


def test_duplicates_are_named_with_their_rows():
    with pytest.raises(DatasetError, match=r"`predictions` holds 2 id\(s\) more than once: 'a' in rows 0, 2; 'b' in"):
        match_ids(["a", "b", "a", "b"], ["a", "b"])
    with pytest.raises(DatasetError, match=r"`references` .* 'a' in rows 0, 1"):
        match_ids(["a"], ["a", "a"])
    check_unique(["a", "b"], "ids")


def test_unequal_id_sets_are_named():
    with pytest.raises(DatasetError, match=r"1 of 2 predictions have no reference: 'x'\."):
        match_ids(["a", "x"], ["a"])
    with pytest.raises(DatasetError, match=r"7 of 8 references have no prediction: 'b', 'c', 'd', 'e', 'f'\."):
        match_ids(["a"], list("abcdefgh"), allow_missing=False)


def test_groups_are_numbered_as_they_appear():
    index, names = as_groups(["p2", "p1", "p2"], 3, "patients")
    assert (index.tolist(), names) == ([0, 1, 0], ["p2", "p1"])


@pytest.mark.parametrize("blank", [None, math.nan, " "])
def test_rows_without_a_group_are_named(blank):
    with pytest.raises(DatasetError, match="`patients` is missing in row 1; 2 wrong"):
        as_groups(["a", blank, blank], 3, "patients")


def test_groups_must_be_as_many_as_rows():
    with pytest.raises(ShapeError, match="`patients` with 3 rows, but got 2"):
        as_groups(["a", "b"], 3, "patients")


@pytest.mark.parametrize("missing", [None, math.nan, np.float32("nan"), pd.NA, pd.NaT])
def test_every_kind_of_missing_prediction_counts(missing):
    assert as_predicted_texts(["a", missing]) == (["a", ""], 1)
    with pytest.raises(DatasetError, match=r"not text in row 1 .*1 wrong row\(s\): 1\. Pass strings\."):
        as_reference_texts(["a", missing])


def test_columns_and_iterators_are_lists_of_reports():
    column = pd.Series(["a", 3], index=[7, 9])
    with pytest.raises(DatasetError, match=r"not text in row 1 \(3\)"):
        as_predicted_texts(column)
    assert as_predicted_texts(iter(["a", None])) == (["a", ""], 1)
