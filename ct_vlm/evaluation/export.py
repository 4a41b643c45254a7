"""Scores and reports to files."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import DatasetError
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct_vlm.evaluation.cases import Case

_CHALLENGE = {"name": "Generated reports", "type": "Report generation", "version": {"major": 1, "minor": 0}}


def write_json(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all.

    Args:
        path: The file.
        values: JSON values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write one CSV row a report: labels found, missed and invented, and its own scores.

    Args:
        path: The file.
        cases: From :func:`ct_vlm.evaluation.make_cases`.
    """
    names = list(dict.fromkeys(name for case in cases for name in case.scores))
    head = ["id", "patient", "f1", "found", "missed", "invented", *names, "prediction", "reference"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(head)
        for case in cases:
            sets = ("; ".join(labels) for labels in (case.found, case.missed, case.invented))
            scores = (case.scores.get(name, "") for name in names)
            f1 = "" if case.f1 is None else case.f1
            writer.writerow([case.id, case.patient, f1, *sets, *scores, case.prediction, case.reference])


def write_challenge(path: Path, reports: Mapping[str, str | None]) -> None:
    """Write reports as the VLM3D challenge wants them.

    Args:
        path: The file.
        reports: Volume to report.

    Raises:
        DatasetError: If a report is missing: the challenge scores every volume.

    Example:
        >>> import pathlib, tempfile
        >>> from ct_vlm.evaluation import read_reports, write_challenge
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "results.json")
        ...     write_challenge(file, {"valid_1_a_1": "Findings: Heart size is normal."})
        ...     read_reports(file).reports
        ('Findings: Heart size is normal.',)

    References:
        VLM3D challenge, report generation: output format 1.0.
    """
    missing = [name for name, report in reports.items() if not report]
    if missing:
        cause = f"{len(missing)} of {len(reports)} volumes have no report: {', '.join(missing[:5])}."
        raise DatasetError(cause, "The challenge scores every volume; write a report for each.")
    entries = [{"input_image_name": name, "report": report} for name, report in reports.items()]
    write_json(path, {**_CHALLENGE, "generated_reports": entries})
