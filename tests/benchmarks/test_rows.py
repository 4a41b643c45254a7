"""Rows survive the file, runs are appended, and a file that is something else stays as it is."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.rows import FIELDS, append_rows, latest, read_rows
from ct_vlm.errors import DatasetError


def test_rows_survive_the_file(tmp_path, case_rows) -> None:
    file = tmp_path / "new" / "rows.csv"
    strange = dataclasses.replace(case_rows[-1], reason='a, "b"\nc', difference=None)
    append_rows(file, [*case_rows, strange])
    assert read_rows(file) == [*case_rows, strange]
    assert file.read_text().splitlines()[0] == ",".join(FIELDS)


def test_other_runs_stay(tmp_path, row) -> None:
    file = tmp_path / "rows.csv"
    again = dataclasses.replace(row, date="2026-02-02T03:04:05+00:00", median_ms=1.0)
    append_rows(file, [row])
    first = file.read_bytes()
    append_rows(file, [again])
    assert file.read_bytes().startswith(first)
    assert read_rows(file) == [row, again]
    assert [item.name for item in tmp_path.iterdir()] == ["rows.csv"]


def test_times_keep_five_digits(tmp_path, row) -> None:
    file = tmp_path / "rows.csv"
    append_rows(file, [dataclasses.replace(row, median_ms=123.456789, difference=1.23456789e-7)])
    assert read_rows(file)[0].median_ms == 123.46
    assert read_rows(file)[0].difference == 1.2346e-7


def test_another_table_is_left_alone(tmp_path, row) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("name,age\nA,1\n")
    with pytest.raises(DatasetError, match=r"rows\.csv has other columns"):
        append_rows(file, [row])
    assert file.read_text() == "name,age\nA,1\n"


def test_latest_run_of_a_case_counts(row) -> None:
    newer = dataclasses.replace(row, date="2026-02-02T03:04:05+00:00")
    other = dataclasses.replace(row, case="large")
    gpu = dataclasses.replace(row, device="cuda")
    half = dataclasses.replace(newer, dtype="float16")
    assert latest([row, other, newer, gpu, half]) == [other, newer, gpu, half]
