"""Every kind of finding: what it means and what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ct_vlm.datasets.audit.codes_files import FILE_CODES
from ct_vlm.datasets.audit.codes_tables import TABLE_CODES

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Code(NamedTuple):
    """A kind of finding.

    Args:
        code: Stable name, e.g. ``header.nan_affine``.
        severity: ``error`` (a volume or table is unusable or wrong), ``warning`` (something is left
            out, repaired or doubtful), ``info`` (worth knowing).
        meaning: What is the matter.
        cure: What to do, and which option of the library deals with it.
        severity_full: Severity where the whole data set is expected (``expect="full"``).
        is_deep: Whether only a run that reads voxels finds it.
    """

    code: str
    severity: Severity
    meaning: str
    cure: str
    severity_full: Severity
    is_deep: bool

    def severity_under(self, expect: str) -> Severity:
        """Return the severity of a subset's or the full data set's finding."""
        return self.severity_full if expect == "full" else self.severity


def _codes() -> dict[str, Code]:
    """Build the table from the rows of files and of tables."""
    codes = {}
    for name, (severity, meaning, cure) in {**FILE_CODES, **TABLE_CODES}.items():
        usual, _, full = severity.partition("/")
        codes[name] = Code(name, _severity(usual), meaning, cure, _severity(full or usual), name.startswith("voxels."))
    return codes


def _severity(name: str) -> Severity:
    """Return one of the three severities."""
    return next(severity for severity in SEVERITIES if severity == name)


CODES: dict[str, Code] = _codes()
"""Code to what it means; the codes are stable."""
