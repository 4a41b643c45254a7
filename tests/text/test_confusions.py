"""The table of confusions and the swap of one finding's words for another's."""

from __future__ import annotations

import pytest

from ct_vlm.text import CT_RATE_LABELS, STEERING_REGIONS
from ct_vlm.text.confusions import CONFUSIONS, confusions_of, swap_finding
from ct_vlm.text.finding_phrases import FINDINGS


def test_rows_name_findings_of_the_table_once_with_a_reason():
    pairs = [(row.region, row.old, row.new) for row in CONFUSIONS]
    assert len(pairs) == len(set(pairs))
    assert {row.region for row in CONFUSIONS} == set(STEERING_REGIONS)
    assert {name for row in CONFUSIONS for name in (row.old, row.new)} == set(FINDINGS)
    assert all(len(row.reason.split()) >= 5 and row.old != row.new for row in CONFUSIONS)
    # without a common form no sentence of one could become one of the other
    assert all(set(FINDINGS[row.old].said) & set(FINDINGS[row.new].said) for row in CONFUSIONS)


def test_a_finding_finds_what_it_says():
    assert {finding.label for finding in FINDINGS.values()} <= {None, *CT_RATE_LABELS}
    for finding in FINDINGS.values():
        for words in finding.said.values():
            match = finding.pattern.fullmatch(words)
            assert match, (finding.name, words)


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        ("A 5 mm nodule.", "nodule", "atelectasis", "A 5 mm area of atelectasis."),
        ("A nodule is seen.", "nodule", "atelectasis", "An area of atelectasis is seen."),
        ("An area of atelectasis is seen.", "atelectasis", "nodule", "A nodule is seen."),
        ("There are an atelectatic band.", "atelectasis", "consolidation", "There are a consolidation area."),
        ("Linear atelectasis at the base.", "atelectasis", "consolidation", "Consolidation at the base."),
        ("Basal atelectasis.", "atelectasis", "consolidation", "Basal consolidation."),
        ("Nodules in both lungs.", "nodule", "consolidation", "Consolidations in both lungs."),
        ("Left hilar emphysema.", "emphysema", "mosaic attenuation", "Left hilar mosaic attenuation."),
        ("Enlarged left hilar lymph nodes.", "lymphadenopathy", "soft tissue", "Left hilar soft tissue thickenings."),
        ("Enlarged lymph nodes of 12 mm.", "lymphadenopathy", "soft tissue", "Soft tissue thickenings of 12 mm."),
        ("Heart size is increased.", "cardiomegaly", "pericardial effusion", "Pericardial effusion is observed."),
        ("Pericardial effusion of 5 mm.", "pericardial effusion", "cardiomegaly", None),
        ("Pericardial effusion.", "pericardial effusion", "cardiomegaly", "Enlarged heart."),
        ("Emphysema is seen.", "emphysema", "air cyst", None),
        ("A solid round nodule.", "nodule", "ground glass opacity", None),
        ("A solid nodule.", "nodule", "ground glass opacity", "An area of ground glass opacity."),
        ("Emphysema is seen.", "nodule", "consolidation", None),
        ("An old fracture in the left 6th rib.", "fracture", "schmorl node", None),
        ("A fracture in the sternum.", "fracture", "sternal wire", "A sternal wire in the sternum."),
        ("A fracture of the end plate.", "fracture", "schmorl node", "A Schmorl node of the end plate."),
        ("A thyroid nodule of 9 mm.", "thyroid nodule", "thyroid cyst", "A thyroid cyst of 9 mm."),
        ("Nodule, later two nodules.", "nodule", "consolidation", "Consolidation area, later two consolidations."),
    ],
)
def test_swaps_keep_number_article_and_capital(text, old, new, expected):
    assert swap_finding(text, FINDINGS[old], FINDINGS[new]) == expected


def test_rows_are_those_of_the_region():
    assert {row.new for row in confusions_of("heart", "Effusion of 5 mm.")} == {
        "cardiomegaly",
        "pericardial thickening",
    }
    assert confusions_of("heart", "Nodules.") == []
    assert confusions_of("thyroid", "Bronchiectasis.") == []
