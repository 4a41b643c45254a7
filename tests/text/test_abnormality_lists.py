"""Lists of abnormalities: written and read back whatever they hold, and read from any text."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text import (
    RADGENOME_REGIONS,
    STEERING_REGIONS,
    Abnormality,
    parse_abnormalities,
    parse_cot,
    read_abnormalities,
    read_cot,
    render_abnormalities,
    render_cot,
)
from ct_vlm.text.abnormality_reading import ReadAbnormalities

# characters that mean something in the form are drawn often
TEXTS = st.text(st.sampled_from("()\n\r: \u2028aé中") | st.characters(exclude_categories=["Cs"]), max_size=30)
LISTS = st.lists(st.tuples(st.sampled_from(sorted(STEERING_REGIONS)), TEXTS), max_size=5)
TRICKY = [("lung", "a)\n(Heart: b"), ("lung", ""), ("bone", "\n\nReport:\n"), ("pleura", "(None)"), ("heart", "\n \n")]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(LISTS)
@example(TRICKY)
def test_a_list_is_read_back_whatever_it_holds(entries):
    assert list(parse_abnormalities(render_abnormalities(entries))) == entries


@settings(max_examples=150, deadline=None, derandomize=True)
@given(LISTS, TEXTS)
@example(TRICKY, "Abnormalities:\n(None)\n\nReport:\nx")
def test_a_target_is_read_back_whatever_it_holds(entries, report):
    found = parse_cot(render_cot(entries, report))
    assert (list(found.abnormalities), found.report) == (entries, report)
    assert found.list_text == render_abnormalities(entries)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(TEXTS)
@example("NONE")
@example("(")
@example("))((Lung:")
def test_any_text_can_be_read(text):
    found = read_abnormalities(text)
    # nothing is silently dropped: what gives no entry is reported, or says that there is none
    assert found.entries or found.problems or "none" in text.lower()
    assert read_cot(text).list_text in text


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEERING_REGIONS)), st.just("A (5 mm) nodule: x.")), unique=True), TEXTS
)
def test_what_was_written_has_no_problems(entries, report):
    found = read_cot(render_cot(entries, f"Seen. {report}"))
    assert (list(found.abnormalities), found.report, found.problems) == (entries, f"Seen. {report}", ())


def test_the_regions_are_those_of_radgenome_in_the_order_of_the_paper():
    assert sorted(STEERING_REGIONS) == sorted(RADGENOME_REGIONS)
    assert list(STEERING_REGIONS.values())[:3] == ["Lung", "Trachea and Bronchi", "Mediastinum"]


@pytest.mark.parametrize(
    ("text", "entries", "kinds"),
    [
        ("(None)", [], []),
        (" none. ", [], []),
        ("", [], ["empty"]),
        ("(Lung: A.)\n(Lung: A.)", [("lung", "A.")], ["duplicate"]),
        ("(Lung: A (5 mm).) (HEART: B.)", [("lung", "A (5 mm)."), ("heart", "B.")], []),
        ("(Lung: A\n(Heart: B.)", [("lung", "A"), ("heart", "B.")], ["truncated"]),
        ("(Lung: A (see: here)\n(Heart: B.)", [("lung", "A (see: here)"), ("heart", "B.")], ["truncated"]),
        ("(Lung: )", [], ["blank", "empty"]),
        ("(Lung)", [], ["blank", "empty"]),
        ("(nodule)", [], ["no region", "empty"]),
        ("(Liver: A.)\nHeart: B.\n(Bone: C.", [("bone", "C.")], ["unknown region", "outside", "truncated"]),
        ("(None)\n(Bone: C.)", [("bone", "C.")], ["contradiction"]),
        ("(trachea and bronchie: A.)", [("trachea and bronchie", "A.")], []),
    ],
)
def test_a_model_s_list_is_read_as_far_as_possible(text, entries, kinds):
    found = read_abnormalities(text)
    assert list(found.entries) == entries
    assert [problem.kind for problem in found.problems] == kinds


@pytest.mark.parametrize(
    ("text", "listed", "report", "kinds"),
    [
        ("Abnormalities:\n(Lung: A.)\n\nReport:\nB.", "(Lung: A.)", "B.", []),
        ("abnormalities: (Lung: A.) Report: B.\nC.", "(Lung: A.)", "B.\nC.", []),
        ("(Lung: A.)\nReport:\nB. Report: C.", "(Lung: A.)", "B. Report: C.", []),
        ("Abnormalities:\n(Lung: A", "(Lung: A", "", ["truncated", "truncated"]),
        ("Abnormalities:\n(Lung: A.)\n\nReport:\n", "(Lung: A.)", "", ["truncated"]),
        ("Heart is normal. Report: no.", "", "Heart is normal. Report: no.", ["empty"]),
        ("Report:\nB.", "", "B.", ["empty"]),
    ],
)
def test_the_parts_of_a_model_s_text(text, listed, report, kinds):
    found = read_cot(text)
    assert (found.list_text, found.report) == (listed, report)
    assert [problem.kind for problem in found.problems] == kinds


@pytest.mark.parametrize(
    "text", ["", "(None)\n(None)", "Lung: A.", "(lung: A.)", "(Lung: A.", "(Lung:A.)", " (Lung: A.)"]
)
def test_the_exact_reader_refuses_everything_else(text):
    with pytest.raises(DatasetError, match="no entry"):
        parse_abnormalities(text)


def test_unknown_regions_are_refused():
    with pytest.raises(ConfigError, match=r"'brain'.*Choose from"):
        render_abnormalities([Abnormality("brain", "x")])
    with pytest.raises(DatasetError, match="read_cot"):
        parse_cot("Lungs are clear.")


@pytest.mark.parametrize(
    "nothing",
    ["None", "none.", "Normal", "Unremarkable.", "No abnormality is seen.", "No significant findings", "-", "N/A"],
)
def test_what_says_that_a_region_has_nothing_is_no_entry(nothing: str) -> None:
    found = read_abnormalities(f"(Lung: A nodule.)\n(Heart: {nothing})")
    assert found.entries == (Abnormality("lung", "A nodule."),)
    assert found.problems == ()
    assert read_abnormalities(f"(Lung: {nothing})\n(Heart: {nothing})") == ReadAbnormalities(())


@pytest.mark.parametrize(
    "stated", ["Normal variant of the azygos lobe", "No abnormality but a 4 mm nodule", "Nonetheless"]
)
def test_what_only_starts_like_nothing_is_an_entry(stated: str) -> None:
    assert read_abnormalities(f"(Lung: {stated})").entries == (Abnormality("lung", stated),)
