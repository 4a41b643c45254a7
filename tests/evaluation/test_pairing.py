import numpy as np
import pytest

from ct_vlm.errors import DatasetError
from ct_vlm.evaluation import ReportTable, pair_reports


def test_predictions_come_in_the_order_of_the_references() -> None:
    pairs = pair_reports(ReportTable(("c", "a"), ("3", "1")), ReportTable(("a", "b", "c"), ("x", "y", "z")))
    assert pairs.predictions == ["1", None, "3"]
    assert pairs.patients == ("a", "b", "c")
    assert pairs.patients_from == "reports"


def test_labels_of_another_file_are_put_in_order() -> None:
    labels = ReportTable(("b", "a"), labels=np.stack([np.ones(18), np.zeros(18)]))
    pairs = pair_reports(ReportTable(("a",), ("1",)), ReportTable(("a", "b"), ("x", "y")), labels)
    np.testing.assert_array_equal(pairs.target_labels[:, 0], [0, 1])


def test_missing_predicted_labels_are_unknown() -> None:
    predicted = ReportTable(("b",), labels=np.ones((1, 18)))
    pairs = pair_reports(predicted, ReportTable(("a", "b"), ("x", "y")))
    np.testing.assert_array_equal(pairs.predicted_labels[:, 0], [np.nan, 1])


@pytest.mark.parametrize(
    ("predictions", "references", "labels", "message"),
    [
        (ReportTable(("a", "z"), ("1", "2")), ReportTable(("a",), ("x",)), None, "1 of 2 .* no reference: 'z'"),
        (
            ReportTable(("a",), ("1",)),
            ReportTable(("a", "b"), ("x", None), source="r.csv"),
            None,
            "r.csv. has no report for 1 of 2 volumes: b",
        ),
        (
            ReportTable(("a",), ("1",)),
            ReportTable(("a",), ("x",)),
            ReportTable(("b",), labels=np.ones((1, 18)), source="l.csv"),
            "l.csv. has no labels for 1 of 1 volumes: a",
        ),
        (
            ReportTable(("a",), ("1",)),
            ReportTable(("a",), ("x",)),
            ReportTable(("a",), ("t",), source="l.csv"),
            "l.csv. holds no label columns",
        ),
    ],
)
def test_ids_that_do_not_match_are_named(predictions, references, labels, message) -> None:
    with pytest.raises(DatasetError, match=message):
        pair_reports(predictions, references, labels)
