"""The command tests, times, prints and keeps; it refuses red ops and wrong requests."""

from __future__ import annotations

import dataclasses

import pytest

import benchmarks.__main__ as command
from benchmarks import run as runs
from benchmarks.gate import RedTestsError
from benchmarks.rows import read_rows


@pytest.fixture(autouse=True)
def ops(monkeypatch, small_ceilings, weightless, fake_op):
    """Two ops: the tests of one are green, those of the other red."""
    for name in ("TRITON_INTERPRET", "CT_VLM_OPS"):
        monkeypatch.delenv(name, raising=False)
    found = {"fake": fake_op, "red": dataclasses.replace(fake_op, name="red", tests="tests/red")}
    monkeypatch.setattr(runs, "load_op", found.__getitem__)
    monkeypatch.setattr(command, "load_op", found.__getitem__)
    monkeypatch.setattr(command, "op_names", lambda: list(found))
    asked = []

    def gate(tests: str) -> None:
        asked.append(tests)
        if tests == "tests/red":
            raise RedTestsError("`tests/red` does not pass.", "Mend it.")

    monkeypatch.setattr(runs, "require_green", gate)
    return asked


def run(*arguments: str) -> int:
    return command.main(["run", "--repeats", "1", "--no-progress", *arguments])


def test_rows_are_printed_and_kept(tmp_path, capsys, ops) -> None:
    file = tmp_path / "cpu.csv"
    assert run("fake", "--csv", str(file)) == 0
    rows = read_rows(file)
    assert {row.case for row in rows} == {"small", "decode"}
    assert {(row.device, row.dtype, row.tests, row.threads, row.clock) for row in rows} == {
        ("cpu", "float32", "passed", 1, "process CPU time")
    }
    printed = capsys.readouterr().out
    assert "fake small, float32, cpu: ms (process CPU time)" in printed
    assert "NotImplementedError: no backward here" in printed
    assert ops == ["tests/fake"]
    assert run("fake", "--case", "decode", "--csv", str(file), "--skip-tests") == 0
    again = read_rows(file)
    assert again[: len(rows)] == rows
    assert {(row.case, row.tests) for row in again[len(rows) :]} == {("decode", "skipped")}
    assert ops == ["tests/fake"]


def test_red_ops_are_not_timed_and_others_are(tmp_path, capsys, ops) -> None:
    file = tmp_path / "cpu.csv"
    assert run("red", "fake", "--csv", str(file)) == 1
    assert {row.op for row in read_rows(file)} == {"fake"}
    assert "`tests/red` does not pass." in capsys.readouterr().err
    assert ops == ["tests/red", "tests/fake"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fake", "--case", "large"), "no case `large`"),
        (("fake", "--dtype", "bfloat16"), "bfloat16 on a CPU"),
        (("--device", "cuda"), "no CUDA device"),
    ],
)
def test_wrong_requests_end_before_anything_runs(arguments, message, capsys, monkeypatch, ops) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert ops == []


def test_file_of_another_kind_is_found_before_timing(tmp_path, capsys, ops) -> None:
    file = tmp_path / "other.csv"
    file.write_text("a,b\n")
    assert run("fake", "--csv", str(file)) == 2
    assert "other columns" in capsys.readouterr().err
    assert (ops, file.read_text()) == ([], "a,b\n")


@pytest.mark.parametrize(("busy", "warned"), [(2.5, True), (2.0, False)])
def test_a_busy_machine_is_warned_of(monkeypatch, capsys, busy, warned) -> None:
    monkeypatch.setattr(runs, "load", lambda: busy)
    monkeypatch.setattr(runs, "cores", lambda: 2)
    assert runs.warn_if_busy() is warned
    assert ("load (2.5) is above the number of cores (2)" in capsys.readouterr().err) is warned


def test_list_names_ops_cases_and_providers(capsys) -> None:
    assert command.main(["list"]) == 0
    printed = capsys.readouterr().out
    for text in ("red  (tests: tests/red)", "cases: small, decode", "baseline: exact", "library: not installed"):
        assert text in printed
