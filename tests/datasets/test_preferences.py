"""Preference pairs: files in both of TRL's forms, and what is refused."""

from __future__ import annotations

import json

import pytest

from ct_vlm.datasets.preferences import Change, PreferencePair, read_preferences, write_preferences
from ct_vlm.errors import ConfigError, DatasetError

PAIRS = [
    PreferencePair(
        "a_1", "List.", "(Lung: A nodule.)", "(Lung: A mass.)", (Change("lung", "A nodule.", "A mass.", "c"),)
    ),
    PreferencePair("a_1", "List.", "(Lung: A nodule.)", "(None)"),
    PreferencePair("b_1", "List.", "(Kalp: büyük\n)", "(None)"),
]


@pytest.mark.parametrize("form", ["plain", "conversational"])
def test_files_give_back_what_was_written(tmp_path, form):
    file = tmp_path / "new" / "pairs.jsonl"
    assert write_preferences(PAIRS, file, form) == 3
    assert read_preferences(file) == PAIRS
    row = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    assert (row["chosen"] == "(Lung: A nodule.)") == (form == "plain")


def test_a_failure_leaves_the_old_file(tmp_path):
    file = tmp_path / "pairs.jsonl"
    write_preferences(PAIRS, file)

    def broken():
        yield PAIRS[0]
        msg = "stop"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError):
        write_preferences(broken(), file)
    assert read_preferences(file) == PAIRS
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


GOOD = PAIRS[1].to_row("plain")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Line 2 .*no JSON"),
        ("3", "Line 2 .*columns id"),
        (json.dumps({**GOOD, "id": None}), "Line 2 .*`id` is None"),
        (json.dumps({**GOOD, "chosen": " "}), "Line 2 .*'chosen'"),
        (json.dumps({**GOOD, "chosen": "(None)"}), "Line 2 .*same text"),
        (json.dumps({**GOOD, "prompt": [{"role": "system", "content": "x"}]}), "Line 2 .*`prompt`.*user"),
        (json.dumps({**GOOD, "rejected": [{"role": "assistant", "content": 3}]}), "Line 2 .*`rejected`"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "rejected"}), "Line 2 .*`rejected`"),
        (json.dumps({**GOOD, "changes": [{"region": "lung"}]}), "Line 2 .*`changes`"),
        (json.dumps({**GOOD, "changes": [{"region": 1, "old": "", "new": "", "strategy": ""}]}), "Line 2 .*`changes`"),
        (json.dumps(PAIRS[0].to_row("plain")), "Lines 1 and 2 .*'a_1'"),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, words):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIRS[0].to_row("plain")) + "\n" + line + "\n")
    with pytest.raises(DatasetError, match=words):
        read_preferences(file)


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="Cannot read"):
        read_preferences(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DatasetError, match="no pairs"):
        read_preferences(tmp_path / "empty.jsonl")
    with pytest.raises(ConfigError, match="Choose from"):
        write_preferences(PAIRS, tmp_path / "x.jsonl", "chat")


@pytest.mark.slow  # importing trl takes many seconds
@pytest.mark.parametrize("form", ["plain", "conversational"])
def test_trl_reads_the_columns(tmp_path, form):
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    file = tmp_path / "pairs.jsonl"
    write_preferences(PAIRS, file, form)
    rows = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert {"id", "prompt", "chosen", "rejected", "changes"} == set(rows.column_names)
    assert data_utils.is_conversational(rows[0]) == (form == "conversational")
    assert [PreferencePair.from_row(row) for row in rows] == PAIRS
