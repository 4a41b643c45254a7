"""The outcome of an audit: counts and findings."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ct_vlm.datasets.audit.codes import CODES, SEVERITIES, Severity
from ct_vlm.errors import DatasetError
from ct_vlm.files import atomic_path, write_json

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Args:
        code: Key of ``CODES``.
        severity: ``error``, ``warning`` or ``info``.
        file: File or folder, relative to the root.
        detail: The value that led to it, or the volume concerned.
        row: Line of a table on which its row starts (the header is line 1).
    """

    code: str
    severity: Severity
    file: str
    detail: str = ""
    row: int | None = None


@dataclass(frozen=True)
class Count:
    """How much of a split is there.

    Args:
        split: ``train`` or ``valid``.
        release: ``v1``, ``v2`` or ``preprocessed``.
        unit: ``volumes``, ``scans`` or ``patients``.
        found: Number on disk.
        published: Published number.
        note: What the published number counts, and where it is known from.
    """

    split: str
    release: str
    unit: str
    found: int
    published: int
    note: str


@dataclass
class AuditReport:
    """What an audit found.

    Args:
        root: Folder that was audited.
        layout: ``ct_rate``, ``radgenome`` or ``ct_rate+radgenome``.
        expect: ``subset`` or ``full``.
        is_deep: Whether voxels were read.
        headers: Number of headers read.
        voxels: Number of volumes and masks decoded.
        seconds: How long it took.
        counts: Against the published numbers.
        tables: Table to its number of rows.
        regions: Region to the number of volumes with a mask of it (RadGenome-ChestCT).
        findings: Errors first, then by code and file.

    Example:
        >>> from ct_vlm.datasets.audit import AuditReport, Finding
        >>> finding = Finding("tree.empty_file", "error", "train_1_a_1.nii.gz")
        >>> report = AuditReport("data", "ct_rate", findings=[finding])
        >>> report.has_errors, report.count_by_code()
        (True, {'tree.empty_file': 1})
    """

    root: str
    layout: str
    expect: str = "subset"
    is_deep: bool = False
    headers: int = 0
    voxels: int = 0
    seconds: float = 0.0
    counts: list[Count] = field(default_factory=list)
    tables: dict[str, int] = field(default_factory=dict)
    regions: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def count_by_code(self) -> dict[str, int]:
        """Return the number of findings of each code, errors first."""
        return dict(Counter(finding.code for finding in self.findings))

    def count_by_severity(self) -> dict[str, int]:
        """Return the number of findings of each severity."""
        counts = Counter(finding.severity for finding in self.findings)
        return {severity: counts[severity] for severity in SEVERITIES}

    def by_code(self) -> dict[str, list[Finding]]:
        """Return the findings of each code, errors first."""
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault(finding.code, []).append(finding)
        return groups

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: the fields, the summary, and meaning and cure of every code found."""
        values = {name: value for name, value in asdict(self).items() if name != "findings"}
        return {
            "format": FORMAT,
            **values,
            "summary": self.count_by_severity(),
            "codes": {
                code: {"count": count, "meaning": CODES[code].meaning, "cure": CODES[code].cure}
                for code, count in self.count_by_code().items()
            },
            "findings": [asdict(finding) for finding in self.findings],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build a report from the values of :meth:`to_json`.

        Raises:
            DatasetError: If they are of another format.
        """
        try:
            known = values["format"]
            fields = {name: value for name, value in values.items() if name not in {"format", "summary", "codes"}}
            fields["counts"] = [Count(**count) for count in fields["counts"]]
            fields["findings"] = [Finding(**finding) for finding in fields["findings"]]
            report = cls(**fields)
        except (KeyError, TypeError) as error:
            cause = f"The values are no audit report: {error}."
            raise DatasetError(cause, "Pass what `ct-vlm audit --json` wrote.") from error
        if known != FORMAT:
            cause = f"The audit report has format {known}, but this version reads format {FORMAT}."
            raise DatasetError(cause, "Audit the tree again.")
        return report

    def save_json(self, path: str | Path) -> None:
        """Write the report as JSON, atomically."""
        write_json(path, self.to_json())

    def save_html(self, path: str | Path) -> None:
        """Write the report as one HTML page without outside resources, atomically."""
        from ct_vlm.datasets.audit.html import render

        with atomic_path(path) as temporary:
            temporary.write_text(render(self), encoding="utf-8")
