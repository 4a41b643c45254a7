"""The report: JSON and HTML, its codes and their page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ct_vlm.datasets.audit import CODES, AuditReport, Finding, audit, html
from ct_vlm.datasets.audit.codes import SEVERITIES
from ct_vlm.datasets.audit.collector import Collector
from ct_vlm.errors import ConfigError, DatasetError

HERE = Path(__file__).parent
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Collects text and attributes, and insists that tags close in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def report(ct_rate: Any) -> AuditReport:
    ct_rate.volume("train_2_a_1").write_bytes(b"")
    ct_rate.set_cell(ct_rate.labels(), 3, "Lung nodule", "<script>alert(1)</script>")
    ct_rate.set_cell(ct_rate.reports(), 3, "Findings_EN", "")
    return audit(ct_rate.root, workers=0, progress=False)


def test_json_round_trip(report: AuditReport, tmp_path: Path) -> None:
    report.save_json(tmp_path / "report.json")
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert AuditReport.from_json(values) == report
    assert values["summary"] == report.count_by_severity() == {"error": 2, "warning": 1, "info": 0}
    assert values["codes"]["tree.empty_file"] == {
        "count": 1, "meaning": CODES["tree.empty_file"].meaning, "cure": CODES["tree.empty_file"].cure,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"format": 99}, {"findings": [{"wrong": 1}]}, {"surplus": 1}])
def test_other_json_is_refused(report: AuditReport, change: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"format 99|no audit report"):
        AuditReport.from_json({**report.to_json(), **change})


def test_html_holds_every_finding_and_nothing_from_outside(report: AuditReport, tmp_path: Path) -> None:
    report.save_html(tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(content)
    for finding in report.findings:
        assert finding.file in page.texts
        assert not finding.detail or finding.detail in page.texts
    assert {value for name, value in page.attributes if name == "id"} == set(report.count_by_code())
    assert not {"src", "href"} & {name for name, _ in page.attributes}
    assert "<script" not in content
    assert "http" not in content


def test_html_of_very_many_findings_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MOST_SHOWN", 5)
    findings = [Finding("tree.empty_file", "error", f"file{number}") for number in range(8)]
    texts = Page(html.render(AuditReport("data", "ct_rate", findings=findings))).texts
    assert sum(text.startswith("file") and text != "file" for text in texts) == 5
    assert "3 more are in the JSON report." in texts


def test_findings_are_in_order_and_listed_once() -> None:
    collector = Collector("data")
    for code, file in (("header.dtype", "data/b"), ("tree.empty_file", "data/b"), ("tree.empty_file", "data/a")):
        collector.add(code, file)
        collector.add(code, file)
    report = AuditReport("data", "ct_rate")
    collector.finish(report)
    listed = [(finding.code, finding.file) for finding in report.findings]
    assert listed == [("tree.empty_file", "a"), ("tree.empty_file", "b"), ("header.dtype", "b")]


def test_long_details_are_cut() -> None:
    collector = Collector("data")
    collector.add("table.bad_name", "data/a", "x" * 5000)
    assert len(collector.findings[0].detail) < 400


def test_every_code_is_whole_and_has_a_test() -> None:
    tests = "".join(file.read_text(encoding="utf-8") for file in HERE.glob("test_*.py") if file != Path(__file__))
    for code, entry in CODES.items():
        assert re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", code)
        assert entry.severity in SEVERITIES
        assert entry.meaning.endswith((".", ")"))
        assert entry.cure.endswith((".", ")"))
        assert f'"{code}"' in tests, f"no test names {code}"


def test_the_page_of_codes_is_the_table_of_codes(repository: Path) -> None:
    page = (repository / "docs" / "audit.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| `[a-z_]+\.", line)]
    expected = []
    for code in CODES.values():
        severity = (
            code.severity if code.severity == code.severity_full else f"{code.severity}; full: {code.severity_full}"
        )
        expected.append(f"| `{code.code}` | {severity} | {code.meaning} | {code.cure} |")
    assert rows == expected


def test_a_root_that_is_no_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no folder"):
        audit(tmp_path / "absent")
    with pytest.raises(DatasetError, match="holds no folders or tables"):
        audit(tmp_path)


@pytest.mark.parametrize("options", [{"layout": "nnunet"}, {"expect": "all"}])
def test_unknown_options_are_an_error(ct_rate: Any, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="Expected `"):
        audit(ct_rate.root, **options)


def test_the_inner_folder_may_be_the_root(ct_rate: Any) -> None:
    assert audit(ct_rate.base, workers=0, progress=False).findings == []
