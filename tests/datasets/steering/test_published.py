"""The reader of published targets and preferences: invented rows of several schemas, and broken ones."""

from __future__ import annotations

import json

import pytest

from ct_vlm.datasets.steering import published, read_steered_json
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text import render_cot

COT = "Abnormalities:\n(Lung: A nodule.)\n\nReport:\nA nodule is seen."


def row(name="train_1_a_1", answer=COT, **extra):
    turns = [{"from": "human", "value": "<video>\nDescribe the scan."}, {"from": "gpt", "value": answer}]
    return {"id": name, "videos": [f"videos/{name}.mp4"], "conversations": turns, **extra}


def write(path, rows):
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def test_a_file_of_targets(tmp_path):
    rows = [row(f"train_{n}_a_1") for n in range(1, 4)]
    found = read_steered_json(write(tmp_path / "train.json", rows))
    assert [r.id for r in found.rows] == ["train_1_a_1", "train_2_a_1", "train_3_a_1"]
    assert found.rows[0].prompt == "Describe the scan."
    assert found.rows[0].video == "videos/train_1_a_1.mp4"
    assert found.rows[0].rejected is None
    assert [tuple(entry) for entry in found.rows[0].target.abnormalities] == [("lung", "A nodule.")]
    assert found.rows[0].target.report == "A nodule is seen."
    assert found.problems == ()


@pytest.mark.parametrize("extra", [{"rejected_response": "(None)"}, {"rejected": {"from": "gpt", "value": "(None)"}}])
def test_a_file_of_preferences(tmp_path, extra):
    pair = read_steered_json(write(tmp_path / "DPO.json", [row(**extra)])).rows[0].to_pair()
    assert (pair.id, pair.chosen, pair.rejected) == ("train_1_a_1", COT, "(None)")


def test_pairs_are_cut_at_the_report_and_asked_with_another_prompt(tmp_path):
    worse = "(Lung: A mass.)\nReport: A mass is seen."
    found = read_steered_json(write(tmp_path / "DPO.json", [row(rejected=worse)])).rows[0]
    assert found.to_pair() == found.to_pair("full", "Describe the scan.")
    pair = found.to_pair("list_and_heading", prompt="List, then tell.")
    assert pair.prompt == "List, then tell."
    assert pair.chosen == "Abnormalities:\n(Lung: A nodule.)\n\nReport:\n"
    assert pair.rejected == "Abnormalities:\n(Lung: A mass.)\n\nReport:\n"
    # what the first stage learns from the same list starts with the pair's text
    assert render_cot(found.target.abnormalities, "A nodule is seen.").startswith(pair.chosen)
    assert found.to_pair("list").rejected == "Abnormalities:\n(Lung: A mass.)"
    with pytest.raises(ConfigError, match="'lists'"):
        found.to_pair("lists")


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        ("Lungs are clear.", r"no list that can be read in full \(empty\)"),
        ("(Lung: A mass.)\n(Brain: A mass.)\nReport: Masses.", r"in full \(unknown region\)"),
        ("(Lung: A nodule.)\nReport: Else.", "the same text"),
    ],
)
def test_texts_without_a_list_of_their_own_are_not_cut(tmp_path, worse, words):
    found = read_steered_json(write(tmp_path / "DPO.json", [row(rejected=worse)])).rows[0]
    assert found.to_pair().rejected == worse
    with pytest.raises(DatasetError, match=words):
        found.to_pair("list_and_heading")


def test_other_fields_are_named(tmp_path):
    rows = [{"meta": {"scan": ["x/valid_1_a_2.nii.gz"]}, "q": "Write.", "a": COT, "bad": "(None)"}]
    fields = {"id": "meta.scan.0", "prompt": "q", "answer": "a", "rejected": "bad"}
    found = read_steered_json(write(tmp_path / "x.json", rows), fields).rows[0]
    assert (found.id, found.prompt, found.rejected, found.video) == ("valid_1_a_2", "Write.", "(None)", None)
    with pytest.raises(ConfigError, match="'prompts'"):
        read_steered_json(tmp_path / "x.json", {"prompts": "q"})


def test_json_lines_and_pieces_smaller_than_a_row(tmp_path, monkeypatch):
    rows = [row(f"train_{n}_a_1", answer=COT + " é中" * n) for n in range(1, 6)]
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    whole = read_steered_json(file)
    monkeypatch.setattr(published, "_CHUNK", 7)
    assert read_steered_json(file) == whole
    assert read_steered_json(write(tmp_path / "x.json", rows)) == whole


BAD = [
    (row(answer=" "), "answer", "missing or blank"),
    (row(answer=float("nan")), "answer", "missing or blank"),
    (row(answer=3.5), "answer", "no text"),
    ({"id": "a", "conversations": [{"value": "<video>"}, {"value": "x"}]}, "prompt", "nothing but the marker"),
    ({"conversations": row()["conversations"]}, "id", "missing or blank"),
    (row("train_9_a_1", answer="Another text."), "id", "stands in row 0"),
    ("text", "id", "missing or blank"),
]


@pytest.mark.parametrize(("bad", "field", "why"), BAD)
def test_bad_rows_are_named_or_left_out(tmp_path, bad, field, why):
    file = write(tmp_path / "x.json", [row("train_9_a_1"), bad, row("train_8_a_1")])
    with pytest.raises(DatasetError, match=rf"Row 1 of `.*x\.json`, {field} .*{why}"):
        read_steered_json(file)
    found = read_steered_json(file, strict=False)
    assert [r.id for r in found.rows] == ["train_9_a_1", "train_8_a_1"]
    assert [(p.row, p.field) for p in found.problems] == [(1, field)]


def test_several_worse_texts_of_a_volume_are_kept(tmp_path):
    rows = [row(rejected="(None)"), row(rejected="(Lung: A mass.)"), row(rejected="(None)")]
    found = read_steered_json(write(tmp_path / "x.json", rows), strict=False)
    assert [r.rejected for r in found.rows] == ["(None)", "(Lung: A mass.)"]
    assert found.problems[0].why == "'train_1_a_1' stands in row 0 already"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[]", "holds no row"),
        ('[{"id": 1}, {"id"', "after 1 rows"),
        ('[{"id": 1}', "after 1 rows"),
        ("{broken", "after 0 rows"),
        ('{"data": []}', "missing or blank"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, words):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(DatasetError, match=words):
        read_steered_json(file, strict=False)
    with pytest.raises(DatasetError, match="Cannot read"):
        read_steered_json(tmp_path / "none.json")


def test_a_row_without_a_worse_text_is_no_pair(tmp_path):
    with pytest.raises(DatasetError, match="no worse text"):
        read_steered_json(write(tmp_path / "x.json", [row()])).rows[0].to_pair()
