"""The report of bad files: complete after any end, by any number of runs."""

from __future__ import annotations

import csv
import json
import logging
import threading
from typing import TYPE_CHECKING

from ct_vlm.datasets.preprocessing import Failure, FailureReport
from ct_vlm.datasets.preprocessing import report as report_module

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def failure(name: str = "train_1_a_1", **changes) -> Failure:
    values = {"error": "VolumeReadError", "cause": "It is truncated.", "cure": "Fetch it again.", "entry": "small/x"}
    return Failure(name, f"data/{name}.nii.gz", **{"quarantined": True, **values, **changes})


def rows(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "preprocess_report.json").read_text())["failures"]


def test_tables_say_what_is_wrong(tmp_path: Path) -> None:
    with FailureReport(tmp_path, "small") as report:
        report.failed(failure(cause="Größe 0, “leer”", attempts=2))
    (row,) = rows(tmp_path)
    expected = {"volume": "train_1_a_1", "path": "data/train_1_a_1.nii.gz", "error": "VolumeReadError", "attempts": 2}
    assert {**row, **expected} == row
    assert (row["cause"], row["cure"], row["preset"]) == ("Größe 0, “leer”", "Fetch it again.", "small")
    with (tmp_path / "preprocess_report.csv").open(newline="", encoding="utf-8") as stream:
        (line,) = csv.DictReader(stream)
    assert line == {name: str(value) for name, value in row.items()}


def test_no_failure_no_file(tmp_path: Path) -> None:
    with FailureReport(tmp_path / "new", "small"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_known_after_a_kill(tmp_path: Path) -> None:
    FailureReport(tmp_path, "small").failed(failure())  # never closed: no table, but the journal is on disk
    assert not (tmp_path / "preprocess_report.json").exists()
    assert FailureReport(tmp_path, "small").known() == {"train_1_a_1": failure()}


def test_half_a_line_is_skipped(tmp_path: Path) -> None:
    report = FailureReport(tmp_path, "small")
    report.failed(failure())
    report.failed(failure("train_2_a_1"))
    (journal,) = report.journals.glob("*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-40] + b"\n[1]\n{}\n\xff\n")
    assert list(FailureReport(tmp_path, "small").known()) == ["train_1_a_1"]


def test_the_last_word_counts(tmp_path: Path) -> None:
    for name in ("train_1_a_1", "train_2_a_1"):
        with FailureReport(tmp_path, "small") as report:
            report.failed(failure(name))
    with FailureReport(tmp_path, "small") as report:
        report.resolved("train_1_a_1")
    assert [row["volume"] for row in rows(tmp_path)] == ["train_2_a_1"]
    assert report.listed() == {"train_2_a_1"}


def test_a_clock_that_is_ahead_does_not_have_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = report_module.time.time()
    with monkeypatch.context() as patch, FailureReport(tmp_path, "small") as ahead:
        patch.setattr(report_module.time, "time", lambda: now + 86_400)
        ahead.failed(failure())
    with FailureReport(tmp_path, "small") as report:
        assert report.listed() == {"train_1_a_1"}
        report.resolved("train_1_a_1")
    assert rows(tmp_path) == []


def test_other_presets_keep_their_rows(tmp_path: Path) -> None:
    with FailureReport(tmp_path, "small") as small:
        small.failed(failure())
    with FailureReport(tmp_path, "large") as large:
        large.failed(failure())
        large.resolved("train_9_a_1")
    assert [row["preset"] for row in rows(tmp_path)] == ["large", "small"]
    assert small.listed() == {"train_1_a_1"}


def test_only_what_would_fail_again_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FailureReport(tmp_path, "small") as report:
        report.failed(failure())
        report.failed(failure("train_2_a_1", quarantined=False))
    assert list(report.known()) == ["train_1_a_1"]
    assert len(rows(tmp_path)) == 2
    monkeypatch.setattr(report_module, "__version__", "99")
    assert report.known() == {}


def test_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    def work(part: int) -> None:
        with FailureReport(tmp_path, "small") as report:
            for number in range(20):
                report.failed(failure(f"train_{part}{number}_a_1"))

    threads = [threading.Thread(target=work, args=(part,)) for part in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(tmp_path)) == 80


def test_tables_appear_while_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "_EVERY_SECONDS", 0.0)
    report = FailureReport(tmp_path, "small")
    report.failed(failure())
    assert len(rows(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_gives_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("x")
    with caplog.at_level(logging.WARNING), FailureReport(tmp_path / "file/report", "small") as report:
        report.failed(failure())
        report.failed(failure("train_2_a_1"))
    assert caplog.text.count("Cannot write the report") == 1
