"""The report as one HTML page: no scripts, no outside resources."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.codes import CODES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ct_vlm.datasets.audit.report import AuditReport, Finding

MOST_SHOWN = 2000
"""Findings of one code on the page; all are in the JSON."""
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td.number, th.number { text-align: right; }
td { overflow-wrap: anywhere; }
code { font-size: .9em; }
summary { cursor: pointer; padding: .35rem 0; }
details { border-left: 4px solid #8888; padding-left: .8rem; margin: .5rem 0; }
details.error { border-color: #c62828; } details.warning { border-color: #ef8f00; }
details.info { border-color: #1976d2; }
.bar { display: flex; height: 1.6rem; border-radius: 4px; overflow: hidden; background: #8883; }
.bar span { color: #fff; padding: 0 .5rem; white-space: nowrap; overflow: hidden; }
.bar .error { background: #c62828; } .bar .warning { background: #b26a00; } .bar .info { background: #1565c0; }
"""


def render(report: AuditReport) -> str:
    """Return the page; every text of the tree is escaped.

    Args:
        report: The outcome of an audit.

    Example:
        >>> from ct_vlm.datasets.audit import AuditReport
        >>> from ct_vlm.datasets.audit.html import render
        >>> "No findings." in render(AuditReport("data", "ct_rate"))
        True
    """
    title = f"Audit of {escape(report.root)}"
    mode = "headers and voxels" if report.is_deep else "headers"
    expected = "the full data set" if report.expect == "full" else "a subset"
    about = (
        f"Layout {escape(report.layout)}, {expected} expected; "
        f"read {mode} of {report.headers:,} files ({report.voxels:,} decoded) in {report.seconds:,.1f} s."
    )
    counts = _table(
        ("split", "release", "unit", "found", "published", "the published number counts"),
        ((c.split, c.release, c.unit, f"{c.found:,}", f"{c.published:,}", c.note) for c in report.counts),
        numbers={3, 4},
    )
    tables = _table(("table", "rows"), ((name, f"{rows:,}") for name, rows in report.tables.items()), numbers={1})
    regions = _table(("region", "volumes"), ((name, f"{n:,}") for name, n in report.regions.items()), numbers={1})
    sections = [
        "<h2>Counts</h2>" + counts if report.counts else "",
        "<h2>Tables</h2>" + tables if report.tables else "",
        "<h2>Region masks</h2>" + regions if report.regions else "",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1><p>{about}</p>\n{_bar(report)}\n<h2>Findings</h2>\n"
        f"{_findings(report)}\n{''.join(sections)}\n</body></html>\n"
    )


def _bar(report: AuditReport) -> str:
    """Return the numbers of errors, warnings and infos as one bar."""
    counts = {severity: count for severity, count in report.count_by_severity().items() if count}
    spans = (f'<span class="{name}" style="flex:{count}">{name} {count:,}</span>' for name, count in counts.items())
    return f'<div class="bar">{"".join(spans)}</div>'


def _findings(report: AuditReport) -> str:
    """Return one section a code."""
    sections = [_section(code, findings) for code, findings in report.by_code().items()]
    return "\n".join(sections) or "<p>No findings.</p>"


def _section(code: str, findings: Sequence[Finding]) -> str:
    """Return the findings of one code, closed until it is clicked."""
    severity, known = findings[0].severity, CODES[code]
    rows = ((found.file, "" if found.row is None else str(found.row), found.detail) for found in findings[:MOST_SHOWN])
    rest = len(findings) - MOST_SHOWN
    more = f"<p>{rest:,} more are in the JSON report.</p>" if rest > 0 else ""
    return (
        f'<details class="{severity}" id="{escape(code)}"><summary><code>{escape(code)}</code> '
        f"({severity}, {len(findings):,}): {escape(known.meaning)}</summary><p><b>Cure:</b> {escape(known.cure)}</p>"
        f"{_table(('file', 'row', 'detail'), rows, numbers={1})}{more}</details>"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: set[int]) -> str:
    """Return an HTML table; columns of numbers are set to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        classes = (' class="number"' if index in numbers else "" for index in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{c}>{escape(t)}</{tag}>" for c, t in zip(classes, cells, strict=True)) + "</tr>"

    return f"<table>{line('th', header)}{''.join(line('td', row) for row in rows)}</table>"
