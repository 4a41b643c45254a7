from __future__ import annotations

import math

import numpy as np
import pytest

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics import CallableLabeler, ClinicalEfficacy, LabelTable, read_labels_csv
from ct_vlm.text.labels import CT_RATE_LABELS

NAMES = ["Effusion", "Nodule"]


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
        return tmp_path / "labels.csv"

    return to_file


def test_a_published_table_is_read_by_column_names(write):
    header = ",".join(["VolumeName", *reversed(CT_RATE_LABELS)])
    table = read_labels_csv(write(f"{header}\nvalid_1_a_1.nii.gz,{','.join(['1'] + ['0'] * 17)}\n"))
    assert table.ids == ("valid_1_a_1",)
    assert table.labels.tolist() == [[0] * 17 + [1]]
    assert table.name == "labels.csv"


def test_other_id_columns_floats_and_blanks(write):
    table = read_labels_csv(write("Nodule,AccessionNo,Effusion\n1.0,a,0.0\n,b.nii,1\n"), NAMES)
    assert table.ids == ("a", "b")
    assert table.labels[0].tolist() == [0, 1]
    assert table.labels[1][0] == 1
    assert math.isnan(table.labels[1][1])
    assert read_labels_csv(write("scan,Effusion,Nodule\nx,0,1\n"), NAMES, id_column="scan").ids == ("x",)


def test_rows_follow_the_ids():
    table = LabelTable(("a", "b", "c"), np.eye(3)[:, :2], tuple(NAMES))
    assert table.rows(["c", "folder/a.nii.gz", "a"]).tolist() == [[0, 0], [1, 0], [1, 0]]
    with pytest.raises(DatasetError, match=r"'table' has no labels of 1 of 2 ids: \['x'\]"):
        table.rows(["a", "x"])
    assert np.isnan(table.rows(["x"], allow_missing=True)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Cannot read"),
        ("VolumeName,Effusion,Nodule\n", "no rows"),
        ("VolumeName,Effusion\na,1\n", r"lacks the columns \['Nodule'\]"),
        ("Name,Effusion,Nodule\na,1,0\n", r"lacks the columns \['VolumeName'\]"),
        ("VolumeName,Effusion,Nodule\na,1,0\na.nii.gz,1,0\n", "'a' in rows 0, 1"),
        ("VolumeName,Effusion,Nodule\na,1,0\n,1,0\n", r"row\(s\) \[1\]"),
        ("VolumeName,Effusion,Nodule\na,1,0\nb,2,0\n", "2 in row 1, column 0"),
        ("VolumeName,Effusion,Nodule\na,1,0\nb,yes,0\n", r"no numbers in row\(s\) \[1\]"),
    ],
)
def test_malformed_tables_are_named(write, text, message):
    with pytest.raises(DatasetError, match=message):
        read_labels_csv(write(text), NAMES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.csv"):
        read_labels_csv(tmp_path / "absent.csv")


def test_a_function_labels_reports_of_the_metric():
    labeler = CallableLabeler(lambda texts: [["effusion" in t, "nodule" in t] for t in texts], "words", NAMES)
    metric = ClinicalEfficacy(labeler, NAMES)
    metric.update(["an effusion", None], ["an effusion", "a nodule"])
    scores = metric.compute()
    assert (scores["labeler"], scores["micro_recall"], scores["missing_predictions"]) == ("words", 0.5, 1)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda texts: [[1]] * len(texts), ShapeError, r"\(B, 2\)"),
        (lambda texts: [[1, 0]], ShapeError, r"'f' gave \(1, 2\)"),
        (lambda texts: [[0.7, 0]] * len(texts), DatasetError, r"`f` holds 0\.7"),
    ],
)
def test_functions_are_checked(function, error, message):
    with pytest.raises(error, match=message):
        CallableLabeler(function, "f", NAMES)(["a", "b"])


def test_tables_are_checked():
    with pytest.raises(ShapeError, match="1 ids and 2 rows"):
        LabelTable(("a",), np.zeros((2, 2)), tuple(NAMES))
