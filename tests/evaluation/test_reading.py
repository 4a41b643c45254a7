import json

import pytest

from ct_vlm.errors import DatasetError
from ct_vlm.evaluation import read_reports, write_challenge
from ct_vlm.evaluation.reading import read_rows

TEXT = "Heart size is normal, 5.5 mm."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f'volume_id,prediction\nvalid_1_a_1,"{TEXT}"\n'),
        ("bom.csv", f'\ufeffVolumeName,report\nvalid_1_a_1.nii.gz,"{TEXT}"\n'),
        ("a.tsv", f"AccessionNo\ttext\nvalid_1_a_1\t{TEXT}\n"),
        ("a.jsonl", json.dumps({"id": "valid_1_a_1", "prediction": TEXT}) + "\n\n"),
        ("list.json", [{"volume_id": "/data/valid_1_a_1.nii.gz", "generated_report": TEXT}]),
        ("object.json", {"valid_1_a_1": TEXT}),
        ("nested.json", {"valid_1_a_1": {"prediction": TEXT}}),
        ("wrapped.json", {"model": "x", "results": [{"id": "valid_1_a_1", "report": TEXT}]}),
        ("challenge.json", {"generated_reports": [{"input_image_name": "valid_1_a_1.mha", "report": TEXT}]}),
    ],
)
def test_every_format_gives_the_same_rows(write, name, content) -> None:
    table = read_reports(write(name, content))
    assert (table.ids, table.reports) == (("valid_1_a_1",), (TEXT,))
    assert (table.patients, table.scans) == (("valid_1",), ("valid_1_a",))


def test_line_breaks_and_quotes_inside_reports_survive(write) -> None:
    path = write("a.csv", 'id,prediction\nx,"one, ""two""\nthree"\ny,four\n')
    rows = read_rows(path)
    assert [row["prediction"] for row in rows.records] == ['one, "two"\nthree', "four"]
    assert rows.lines == [3, 4]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "holds no rows"),
        ("a.csv", "id,prediction\n", "holds no rows"),
        ("a.json", "", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.csv", "id,prediction\nx,a,b\n", "Line 2 .* not as many cells"),
        ("a.csv", 'id,prediction\nx,"open\n', "no valid CSV"),
        ("a.json", '{"a": "x", "a": "y"}', "'a' occur more than once"),
        ("a.json", "{", "no valid JSON"),
        ("a.jsonl", '{"id": "x", "report": "y"}\n{', "Line 2 of"),
        ("a.json", "[1]", "Entry 1 .* no object"),
        ("a.json", "3", "neither a list"),
        ("a.xlsx", "x", "no known format"),
    ],
)
def test_malformed_files_say_where(write, name, content, message) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_rows(write(name, content))
    assert name in str(caught.value)
    assert caught.value.cure


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"no file .*gone\.csv"):
        read_rows(tmp_path / "gone.csv")


def test_no_utf8(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,prediction\nx,Röntgen\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"a\.csv.*cannot be read"):
        read_rows(path)


def test_challenge_format_round_trip_and_its_missing_reports(tmp_path) -> None:
    path = tmp_path / "out" / "results.json"
    write_challenge(path, {"valid_1_a_1": "Findings: a.", "valid_2_a_1": "Findings: b."})
    content = json.loads(path.read_text())
    assert (content["name"], content["type"]) == ("Generated reports", "Report generation")
    assert content["version"] == {"major": 1, "minor": 0}
    assert set(content["generated_reports"][0]) == {"input_image_name", "report"}
    assert read_reports(path).reports == ("Findings: a.", "Findings: b.")
    with pytest.raises(DatasetError, match="1 of 2 volumes have no report: valid_2_a_1"):
        write_challenge(path, {"valid_1_a_1": "a", "valid_2_a_1": None})
