import numpy as np
import pytest

from ct_vlm.errors import DatasetError
from ct_vlm.evaluation import read_reports
from ct_vlm.text.labels import CT_RATE_LABELS


def label_csv(rows: dict[str, np.ndarray]) -> str:
    lines = [",".join(["VolumeName", *CT_RATE_LABELS])]
    return "\n".join(lines + [",".join([name, *map(str, row)]) for name, row in rows.items()]) + "\n"


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ("findings", "Normal."),
        ("impressions", "No disease."),
        ("both", "Findings: Normal. Impressions: No disease."),
    ],
)
def test_sections_of_ct_rate(write, sections, expected) -> None:
    path = write("r.csv", "VolumeName,Findings_EN,Impressions_EN\nvalid_1_a_1.nii.gz,Normal.,No disease.\n")
    assert read_reports(path, "references", sections=sections).reports == (expected,)


def test_missing_texts_are_none_in_predictions(write) -> None:
    path = write("p.csv", "id,prediction\na,\nb,nan\nc,Not given.\nd,x\n")
    assert read_reports(path).reports == (None, None, None, "x")


def test_a_file_with_both_texts_is_read_by_role(write) -> None:
    path = write("p.csv", "id,prediction,reference\na,said,true\n")
    assert read_reports(path).reports == ("said",)
    assert read_reports(path, "references").reports == ("true",)


def test_labels_alone_and_unknown_ones(write) -> None:
    row = np.array(["1", "0", "", "1.0", *["0"] * 14])
    table = read_reports(write("l.csv", label_csv({"a": row})), "references")
    assert table.reports is None
    np.testing.assert_array_equal(table.labels[0, :4], [1, 0, np.nan, 1])


def test_patients_of_a_column_win_over_names(write) -> None:
    path = write("p.csv", "id,prediction,patient_id\nvalid_1_a_1,x,P7\nvalid_2_a_1,y,\n")
    assert read_reports(path).patients == ("P7", "valid_2")
    assert read_reports(write("q.csv", "id,prediction\nscan7,x\n")).patients is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,prediction\na,x\nb,y\na.nii.gz,z\n", r"'a' in lines 2, 4"),
        ("id,prediction\n,x\n", r"no 'id' in line 2"),
        ("number,prediction\n1,x\n", r"names no volumes; its columns are number, prediction"),
        ("id,words\na,x\n", r"neither reports nor the 18 labels"),
        ("id,Cardiomegaly\na,1\n", r"lacks the label columns Medical material"),
        (label_csv({"a": np.array([2, *[0] * 17]), "b": np.array([0.5, *[0] * 17])}), r"2 label\(s\).*'2' .* line 2"),
    ],
)
def test_errors_name_file_and_rows(write, content, message) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_reports(write("p.csv", content))
    assert "p.csv" in str(caught.value)


def test_text_that_is_a_number_is_refused(write) -> None:
    with pytest.raises(DatasetError, match=r"no text under 'prediction' in entry 2: 3"):
        read_reports(write("p.json", [{"id": "a", "prediction": "x"}, {"id": "b", "prediction": 3}]))


def test_given_columns_must_exist(write) -> None:
    path = write("p.csv", "who,what\na,x\n")
    assert read_reports(path, id_column="who", text_column="what").reports == ("x",)
    with pytest.raises(DatasetError, match="no column 'where'"):
        read_reports(path, id_column="who", text_column="where")


def test_all_labels_are_read_in_order(write) -> None:
    order = list(reversed(CT_RATE_LABELS))
    values = {label: i % 2 for i, label in enumerate(CT_RATE_LABELS)}
    content = ",".join(["id", *order]) + "\na," + ",".join(str(values[label]) for label in order) + "\n"
    np.testing.assert_array_equal(read_reports(write("l.csv", content)).labels[0], list(values.values()))
