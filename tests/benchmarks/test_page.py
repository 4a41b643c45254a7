"""The page says what the rows say, and the one in the documentation is that of the rows that are kept."""

from __future__ import annotations

import dataclasses
import re

import benchmarks.__main__ as command
from benchmarks.environment import ROOT
from benchmarks.page import RESULTS, render, write_page
from benchmarks.plots import draw
from benchmarks.rows import append_rows, latest, read_rows
from benchmarks.summary import cells, lines, number


def kept_rows():
    return latest(row for file in sorted(RESULTS.glob("*.csv")) for row in read_rows(file))


def test_page_in_the_documentation_is_fresh() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page == render(kept_rows()), "run `python -m benchmarks page`"
    for picture in re.findall(r"!\[\w+\]\((.*?)\)", page):
        assert (ROOT / "docs" / picture).is_file(), picture


def test_page_and_pictures_are_written(tmp_path, capsys, case_rows) -> None:
    docs, results = tmp_path / "docs", tmp_path / "results"
    docs.mkdir()
    append_rows(results / "a.csv", case_rows)
    append_rows(results / "b.csv", [dataclasses.replace(case_rows[0], device="cuda", processor="a GPU")])
    assert command.main(["page", "--results", str(results), "--docs", str(docs)]) == 0
    assert capsys.readouterr().out.strip() == str(docs / "benchmarks.md")
    pictures = sorted((docs / "benchmarks").iterdir())
    assert [file.name for file in pictures] == ["cpu_fake.png", "cuda_fake.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in pictures)
    text = (docs / "benchmarks.md").read_text(encoding="utf-8")
    assert "| ct_vlm | 0.5 | 4 | 1.5 | 4 | 0.125 / 4 | 5e-08 / 5e-08 | 100% |  |" in text
    assert "| peer |" in text
    assert "a \\| b" in text
    assert "| a GPU |" in text
    assert "not measured" in text


def test_without_rows_the_page_says_so(tmp_path) -> None:
    text = write_page(tmp_path, tmp_path).read_text(encoding="utf-8")
    assert "No run on a CPU is recorded." in text
    assert "speed there is unmeasured" in text
    assert not (tmp_path / "benchmarks").exists()


def test_aims_and_skipped_tests_are_told(case_rows) -> None:
    zone = {"op": "zone_attention", "case": "b2_240_600_z8", "tests": "skipped"}
    renamed = {"exact": "nn.MultiheadAttention + mask"}
    rows = [dataclasses.replace(row, **zone, provider=renamed.get(row.provider, row.provider)) for row in case_rows]
    text = render(rows)
    assert "Timed without their tests: zone_attention." in text
    assert re.search(r"zone_attention b2_240_600_z8: forward time .* \| 6.5 \| 4 \| missed \|", text)
    faster = [dataclasses.replace(row, median_ms=0.1) if row.provider == "ct_vlm" else row for row in rows]
    assert re.search(r"zone_attention b2_240_600_z8: forward time .* \| 6.5 \| 20 \| met \|", render(faster))


def test_lines_hold_both_modes(case_rows) -> None:
    found = lines(case_rows)
    assert [line.provider for line in found] == ["exact", "ct_vlm", "peer"]
    assert cells(found[0]) == ("exact", "2", "1", "6", "1", "4 / 4", "5e-08 / 5e-08", "25%", "")
    assert cells(found[2])[1:5] == ("", "", "", "")
    assert cells(found[2])[-1] == "a | b"


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0.0123456, 1.5, 99.96, 123456.0, None)] == [
        "0.0123",
        "1.5",
        "100",
        "123,456",
        "",
    ]


def test_picture_of_rows_without_a_time(tmp_path, row) -> None:
    file = tmp_path / "a.png"
    draw([dataclasses.replace(row, median_ms=None, floor_ms=None, reason="no")], file)
    assert file.read_bytes().startswith(b"\x89PNG")
