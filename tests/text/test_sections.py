from __future__ import annotations

import math

import pytest

from ct_vlm.text.sections import ReportSections, clean_missing, join_sections, split_sections


@pytest.mark.parametrize("value", [None, math.nan, "", "  ", "Not given.", "not given", "NaN", 3.0])
def test_missing_cells_are_empty(value):
    assert clean_missing(value) == ""


def test_text_is_kept():
    assert clean_missing(" Not given contrast. ") == "Not given contrast."


@pytest.mark.parametrize(
    ("text", "findings", "impressions"),
    [
        ("Findings: A. Impressions: B.", "A.", "B."),
        ("FINDINGS: A.\nIMPRESSION: B.", "A.", "B."),
        ("findings: a . impression: b .", "a .", "b ."),
        ("Impression: B.", "", "B."),
        ("A.", "A.", ""),
        ("", "", ""),
        ("Findings: A. Impressions: Not given.", "A.", ""),
        ("The findings are stable.", "The findings are stable.", ""),
    ],
)
def test_splits_headers(text, findings, impressions):
    assert split_sections(text) == ReportSections(findings, impressions)


@pytest.mark.parametrize(("findings", "impressions"), [("A.", "B."), ("A.", ""), ("", "B.")])
def test_join_then_split_gives_the_sections_back(findings, impressions):
    assert split_sections(join_sections(findings, impressions)) == ReportSections(findings, impressions)


def test_join_leaves_no_header_of_a_missing_section():
    assert join_sections(math.nan, "Not given.") == ""
    assert join_sections("A.", "B.", findings_header="", impressions_header="Impression:") == "A. Impression: B."
