"""The Findings and Impressions sections of a report: clean, split, join."""

from __future__ import annotations

import math
import numbers
import re
from dataclasses import dataclass
from typing import Any

_MISSING = frozenset({"", "nan", "none", "null", "n/a", "not given", "not given.", "not available", "not available."})
_HEADER = re.compile(r"(?:^|(?<=[\s.;:\"]))(findings?|impressions?|conclusions?)\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class ReportSections:
    """The two free-text sections of a CT-RATE report.

    Args:
        findings: Text of ``Findings_EN`` ("" where missing).
        impressions: Text of ``Impressions_EN`` ("" where missing).
    """

    findings: str = ""
    impressions: str = ""


def is_missing(value: Any) -> bool:
    """Tell whether a value stands for no text: ``None``, NaN of any kind, or the missing value of a pandas column.

    Blank text is text; see :func:`clean_missing`.

    Args:
        value: Any value.

    Example:
        >>> from ct_vlm.text.sections import is_missing
        >>> [is_missing(v) for v in (None, float("nan"), "", 0.0)]
        [True, True, False, False]
    """
    if isinstance(value, numbers.Real):
        return math.isnan(value)
    # pandas is not imported for the sake of two classes
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def clean_missing(value: Any) -> str:
    """Return the text of a table cell, and "" for every way of saying that there is none.

    Missing are ``None``, NaN, blank text and CT-RATE's "Not given.".

    Args:
        value: A cell of a report table.

    Example:
        >>> from ct_vlm.text.sections import clean_missing
        >>> [clean_missing(v) for v in (float("nan"), "Not given.", " Heart size is normal. ")]
        ['', '', 'Heart size is normal.']
    """
    if not isinstance(value, str):
        return ""
    text = value.strip()
    return "" if text.lower() in _MISSING else text


def split_sections(text: str) -> ReportSections:
    """Split a whole report at its section headers.

    Args:
        text: ``"Findings: ... Impressions: ..."`` in any case, singular or plural. Text without a
            header counts as findings.

    Returns:
        The sections, cleaned with :func:`clean_missing`. Repeated headers are joined with a space.

    Example:
        >>> from ct_vlm.text.sections import split_sections
        >>> split_sections("Findings: Heart size is normal. Impression: Not given.")
        ReportSections(findings='Heart size is normal.', impressions='')
    """
    parts = _HEADER.split(text)
    found: dict[str, list[str]] = {"findings": [parts[0]], "impressions": []}
    for header, body in zip(parts[1::2], parts[2::2], strict=True):
        found["findings" if header.lower().startswith("finding") else "impressions"].append(body)
    joined = {name: " ".join(filter(None, map(clean_missing, bodies))) for name, bodies in found.items()}
    return ReportSections(joined["findings"], joined["impressions"])


def join_sections(
    findings: Any,
    impressions: Any,
    *,
    findings_header: str = "Findings:",
    impressions_header: str = "Impressions:",
) -> str:
    """Join sections into one report; a missing section leaves no header behind.

    Args:
        findings: Findings text or a missing cell.
        impressions: Impressions text or a missing cell.
        findings_header: Put before the findings; "" for none.
        impressions_header: Put before the impressions; the VLM3D challenge writes ``"Impression:"``.

    Example:
        >>> from ct_vlm.text.sections import join_sections
        >>> join_sections("Heart size is normal.", float("nan"))
        'Findings: Heart size is normal.'
    """
    bodies = ((findings_header, clean_missing(findings)), (impressions_header, clean_missing(impressions)))
    return " ".join(f"{header} {body}".strip() for header, body in bodies if body)
