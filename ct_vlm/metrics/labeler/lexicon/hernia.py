"""Hiatal hernia."""

from __future__ import annotations

from ct_vlm.metrics.labeler.rules import Finding, LabelRule, rewrite, stems, within, words

_ELSEWHERE = "bochdal|morgagn|umbilic|inguin|incision|disc|ventral|wall"
_STOMACH = r"(?:sliding|gastric|stomach|gastro\w*|(?:para ?)?o?esophag\w*|rolling|cardia|fundus)"

HERNIA = LabelRule(
    label="Hiatal hernia",
    stems=stems("hern"),
    rewrites=(
        rewrite(
            r"\b(?:umbilical|inguinal|incisional|ventral|dis[ck]|lumbar|cervical|bochdale[kc]k?|morgagni"
            r"|abdominal wall)(?: \w+)? herni?\w*"
        ),
    ),
    findings=(
        Finding("hiatal hernia", words(rf"\bhiat\w*{within(4, _ELSEWHERE)}herni?\w*")),
        Finding("hernia at the hiatus", words(rf"\bherni?\w*{within(10, _ELSEWHERE)}hiat\w*")),
        Finding("hernia of the stomach", words(rf"\b{_STOMACH}{within(8, _ELSEWHERE)}herni?\w*")),
        Finding("herniated stomach", words(rf"\bherni?\w*{within(8, _ELSEWHERE)}{_STOMACH}\b")),
    ),
)
