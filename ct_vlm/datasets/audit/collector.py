"""Where the checks put what they find."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.codes import CODES, SEVERITIES
from ct_vlm.datasets.audit.report import Finding

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.datasets.audit.report import AuditReport

_LONGEST_DETAIL = 300


class Collector:
    """Collects findings with paths relative to a root.

    Args:
        root: Folder of the data set.
        expect: ``subset`` or ``full``; decides the severity of what is absent.
    """

    def __init__(self, root: str | Path, expect: str = "subset") -> None:
        self.root = str(root)
        self.expect = expect
        self.findings: list[Finding] = []
        self._withdrawn: set[tuple[str, str]] = set()

    def add(self, code: str, file: str | Path, detail: object = "", row: int | None = None) -> None:
        """Note a finding.

        Args:
            code: Key of ``CODES``.
            file: File or folder concerned.
            detail: The value that led to it.
            row: Line of a table.
        """
        severity = CODES[code].severity_under(self.expect)
        text = printable(str(detail))
        if len(text) > _LONGEST_DETAIL:
            text = f"{text[:_LONGEST_DETAIL]}..."
        self.findings.append(Finding(code, severity, self.relative(file), text, row))

    def withdraw(self, code: str, file: str | Path) -> None:
        """Take back a finding that a closer look has refuted."""
        self._withdrawn.add((code, self.relative(file)))

    def relative(self, file: str | Path) -> str:
        """Return a path relative to the root, in characters that can be printed."""
        path = str(file)
        if path == self.root:
            return "."
        prefix = self.root.rstrip(os.sep) + os.sep
        return printable(path.removeprefix(prefix)).replace(os.sep, "/")

    def finish(self, report: AuditReport) -> None:
        """Put the findings into a report, errors first, equal ones once."""
        unique = dict.fromkeys(self.findings)
        report.findings = sorted(
            (found for found in unique if (found.code, found.file) not in self._withdrawn),
            key=lambda found: (SEVERITIES.index(found.severity), found.code, found.file, found.row or 0, found.detail),
        )


def printable(text: str) -> str:
    r"""Return text without lone surrogates (undecodable bytes of names and tables) and control characters.

    Example:
        >>> from ct_vlm.datasets.audit.collector import printable
        >>> printable("caf\udce9\n")
        'caf\\udce9\\n'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
