"""Attributes as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_vlm.attributes import (
    Effusion,
    Lesion,
    LesionGroup,
    Organ,
    PatientAttributes,
    carried_by_text,
    parse_attributes,
    render_attributes,
)
from ct_vlm.errors import DatasetError
from ct_vlm.text.laterality import swap_laterality
from ct_vlm.text.places import LOBES

FULL = PatientAttributes(
    organs=(
        Organ("lung", "right", 2310.2),
        Organ("lung", "left", 2053.9),
        Organ("heart", None, 640.0),
        Organ("liver", None, 1480.4, is_partial=True),
        Organ("kidney", "right", 150.0),
        Organ("kidney", "left", 155.0),
    ),
    nodules=LesionGroup(2, (Lesion(6.44, "right upper lobe", 5.0), Lesion(4.06, "left lower lobe"))),
    effusions=(Effusion("left", 320.4, 18.21),),
    cysts=LesionGroup(0),
)

sizes = st.floats(0.1, 5000)
lesions = st.builds(
    Lesion,
    st.floats(0.1, 200),
    st.sampled_from([None, *LOBES, "left kidney", "lung"]),
    st.none() | st.floats(1, 9),
    is_partial=st.booleans(),
)
groups = st.none() | st.builds(
    lambda found, more: LesionGroup(len(found) + more, tuple(found)), st.lists(lesions, max_size=14), st.integers(0, 3)
)
pairs = st.sampled_from([("right", "left"), ("left",), (None,), ()])


@st.composite
def organs(draw):
    named = [("lung", side) for side in draw(pairs)]
    named += [(name, None) for name in draw(st.sets(st.sampled_from(["heart", "liver"])))]
    named += [("kidney", side) for side in draw(pairs)]
    return tuple(Organ(name, side, draw(st.just(0.0) | sizes), draw(st.booleans())) for name, side in named)


effusions = st.none() | st.lists(
    st.builds(Effusion, st.sampled_from(["right", "left", None]), sizes, st.floats(0.1, 90), st.booleans()), max_size=3
).map(tuple)


def test_the_template():
    assert render_attributes(FULL) == (
        "[Patient attributes] Right lung: 2310 mL. Left lung: 2054 mL. Heart: 640 mL. "
        "Liver: 1480 mL (partially imaged). Right kidney: 150 mL. Left kidney: 155 mL. "
        "Lung nodules: 2 (1: 6.4 mm, right upper lobe; 2: 4.1 mm, left lower lobe). "
        "Pleural effusion: left 320 mL, 18.2 mm thick. Kidney cysts: none."
    )


def test_what_was_not_looked_for_is_not_called_absent():
    text = render_attributes(PatientAttributes(organs=(Organ("liver", None, 0.0),), nodules=LesionGroup(0)))
    assert "Lung nodules: none." in text
    assert "Kidney cysts: not assessed." in text
    assert "Liver: not seen." in text
    assert "Heart: not assessed." in text


def test_pairs_that_could_not_be_told_apart_have_one_line():
    text = render_attributes(PatientAttributes(organs=(Organ("lung", None, 4554.0),)))
    assert text.startswith("[Patient attributes] Lungs: 4554 mL. Heart:")
    assert "Right lung" not in text


def test_long_lists_are_cut_and_counted():
    many = PatientAttributes(nodules=LesionGroup(57, tuple(Lesion(9.0 - i / 10) for i in range(20))))
    text = render_attributes(many, max_listed=2)
    assert "Lung nodules: 57 (1: 9.0 mm; 2: 8.9 mm; 55 more)." in text
    assert parse_attributes(text).nodules == LesionGroup(57, (Lesion(9.0), Lesion(8.9)))


@given(st.builds(PatientAttributes, organs(), groups, effusions, groups))
def test_parsing_gives_back_what_the_text_carries(attributes):
    text = render_attributes(attributes)
    assert parse_attributes(text) == carried_by_text(attributes)
    assert render_attributes(parse_attributes(text)) == text


def test_what_the_text_does_not_carry_is_left_out():
    assert carried_by_text(FULL) == parse_attributes(render_attributes(FULL)) != FULL


def test_items_stand_in_one_order_whatever_was_found():
    titles = [part.split(":")[0] for part in render_attributes(FULL).split("] ")[1].split(". ")]
    other = PatientAttributes(organs=tuple(reversed(FULL.organs)), nodules=FULL.nodules)
    assert [part.split(":")[0] for part in render_attributes(other).split("] ")[1].split(". ")] == titles


def test_a_mirrored_text_still_parses():
    mirrored = parse_attributes(swap_laterality(render_attributes(FULL)))
    assert mirrored.volume_ml("lung", "left") == 2310
    assert mirrored.nodules.lesions[0].place == "left upper lobe"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The lungs are clear.",
        "[Patient attributes]",
        render_attributes(FULL).replace("[Patient attributes] ", ""),
        render_attributes(FULL).replace("640 mL", "large"),
        render_attributes(FULL).replace("Heart: 640 mL. ", "Heart: 640 mL. Spleen: 200 mL. "),
        render_attributes(FULL).replace(" Kidney cysts: none.", ""),
        render_attributes(FULL) + " The lungs are clear.",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(DatasetError, match="no text of patient attributes"):
        parse_attributes(text)


def test_json_round_trip_and_foreign_json():
    assert PatientAttributes.from_dict(FULL.to_dict()) == FULL
    with pytest.raises(DatasetError, match="version"):
        PatientAttributes.from_dict({"organs": []})
    with pytest.raises(DatasetError, match="no patient attributes"):
        PatientAttributes.from_dict({**FULL.to_dict(), "organs": [{"name": "heart", "weight": 1}]})


def test_unreadable_json_names_the_file(tmp_path):
    file = tmp_path / "a.json"
    for content in ("{", "[1]"):
        file.write_text(content)
        with pytest.raises(DatasetError, match=r"a\.json"):
            PatientAttributes.load(file)
