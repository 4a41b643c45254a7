"""Merged reports: what goes in comes out, whatever the texts hold."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ct_vlm.errors import ConfigError
from ct_vlm.text import (
    MEDREGION_REGIONS,
    RADGENOME_REGIONS,
    merge_region_reports,
    parse_region_reports,
    strip_region_prefixes,
)

# what could be taken for headings, folds and line ends, and some letters
PIECES = st.sampled_from(
    [
        "Lung: ",
        "lung:",
        "Heart and great vessels: ",
        "\n",
        "\n ",
        " ",
        ":",
        "Clear.",
        "\r",
        "\u2028",
        "\x85",
        "é",
        "x",
        ".",
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@given(st.dictionaries(st.sampled_from(MEDREGION_REGIONS), TEXTS))
@example({"lung": "Clear.\nHeart and great vessels: no lesion.\n\nUpper abdomen: ", "upper abdomen": ""})
def test_parsing_undoes_merging(reports):
    merged = merge_region_reports(reports, MEDREGION_REGIONS)
    assert parse_region_reports(merged, MEDREGION_REGIONS) == reports
    assert list(parse_region_reports(merged, MEDREGION_REGIONS)) == [r for r in MEDREGION_REGIONS if r in reports]


@given(st.dictionaries(st.text("abAB: \u0131\nß", min_size=1, max_size=4), TEXTS, max_size=4))
def test_any_names_that_can_head_a_text_survive(reports):
    try:
        merged = merge_region_reports(reports)
    except ConfigError:
        names = [name.lower() for name in reports]
        folded = {key for name in reports for key in (name.lower(), (name[:1].upper() + name[1:]).lower())}
        unfit = any(not n.strip() or n != n.strip() or set(n) & {":", "\n"} for n in reports)
        assert unfit or len(set(names)) < len(names) or len(folded) != len(set(names))
        return
    assert parse_region_reports(merged, reports) == reports


def test_regions_come_in_canonical_order_and_unnamed_ones_after():
    merged = merge_region_reports({"spleen": "c", "heart": "b", "lung": "a"}, ["lung", "bone", "heart"])
    assert merged == "Lung: a\nHeart: b\nSpleen: c"


def test_blank_texts_are_left_out_on_request():
    reports = {"lung": "Clear.", "bone": " "}
    assert merge_region_reports(reports) == "Lung: Clear.\nBone:  "
    assert merge_region_reports(reports, skip_blank=True) == "Lung: Clear."


def test_a_text_of_a_model_is_read_as_far_as_it_has_the_form():
    text = "Findings follow.\nLUNG: Clear.\nNo nodule.\nBone:No fracture.\nlung: Second part."
    assert parse_region_reports(text) == {
        "other": "Findings follow.",
        "lung": "Clear.\nNo nodule.\nSecond part.",
        "bone": "No fracture.",
    }
    assert parse_region_reports("") == {}


def test_headings_go_and_words_of_sentences_stay():
    reports = {"lung": "Clear lung: no nodule.", "heart": "Normal.\nNo effusion."}
    merged = merge_region_reports(reports, RADGENOME_REGIONS)
    assert strip_region_prefixes(merged) == "Normal. No effusion. Clear lung: no nodule."
    assert strip_region_prefixes("Lung: Clear. Heart: Normal.") == "Clear. Normal."
    assert strip_region_prefixes("Liver: Normal.") == "Liver: Normal."
    assert strip_region_prefixes("Liver: Normal.", ["liver"]) == "Normal."


@given(st.dictionaries(st.sampled_from(MEDREGION_REGIONS), st.text(st.sampled_from("abc ,;")), min_size=1))
def test_without_headings_only_the_texts_are_left(reports):
    merged = merge_region_reports(reports, MEDREGION_REGIONS)
    ordered = [reports[name] for name in MEDREGION_REGIONS if name in reports]
    assert strip_region_prefixes(merged) == " ".join(" ".join(ordered).split())


@pytest.mark.parametrize("names", [["a:b"], ["a\nb"], [" a"], [""], ["lung", "Lung"], ["lung", "lung"]])
def test_names_that_could_not_be_found_again_are_refused(names):
    with pytest.raises(ConfigError, match=r"cannot head|named twice"):
        parse_region_reports("", names)
