from __future__ import annotations

import pytest

from ct_vlm.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 3.5 mm nodule is seen. Heart size is normal.", ["A 3.5 mm nodule is seen.", "Heart size is normal."]),
        ("Effusion was not seen.Heart size is normal.", ["Effusion was not seen.", "Heart size is normal."]),
        ("Old fracture of the 4. rib on the left.", ["Old fracture of the 4. rib on the left."]),
        ("Compared with 12.03.2021. Nodules are stable.", ["Compared with 12.03.2021.", "Nodules are stable."]),
        ("Height loss in T8. Nodules are seen.", ["Height loss in T8.", "Nodules are seen."]),
        ("When examined in the lung window; no nodule.", ["When examined in the lung window", "no nodule."]),
        ("After i.v. contrast the aorta is normal.", ["After i.v. contrast the aorta is normal."]),
        ("Approx. 5 mm nodule.", ["Approx. 5 mm nodule."]),
        ("Minimal bil. effusion.", ["Minimal bil. effusion."]),
        ("1. Nodules\n2. Emphysema", ["Nodules", "Emphysema"]),
        ("- Nodules - Emphysema", ["Nodules", "Emphysema"]),
        ("Pleural effusion - thickening was not seen.", ["Pleural effusion - thickening was not seen."]),
        ("There is no pleural\neffusion.", ["There is no pleural effusion."]),
        ("No effusion\nHeart size is normal", ["No effusion", "Heart size is normal"]),
        ("no effusion . heart size is normal .", ["no effusion .", "heart size is normal ."]),
        ("no effusion\nheart size is normal", ["no effusion", "heart size is normal"]),
        ('"Nodules are seen." "Heart is normal."', ["Nodules are seen.", "Heart is normal."]),
        ("Mosaic pattern (airway disease? vessel disease?).", ["Mosaic pattern (airway disease? vessel disease?)."]),
        ("Nodule? Follow-up is advised.", ["Nodule?", "Follow-up is advised."]),
        ("A nodule of .5 cm is seen.", ["A nodule of .5 cm is seen."]),
        ("", []),
        (" .\n. ", []),
    ],
)
def test_splits(text, expected):
    assert split_sentences(text) == expected


def test_semicolons_may_stay():
    assert split_sentences("Nodes are seen; some calcified. No mass;", semicolons=False) == [
        "Nodes are seen; some calcified.",
        "No mass;",
    ]


def test_keeps_every_word():
    text = "Trachea is open. A 5.5x4 mm nodule; no effusion!\nHeart (CTR 0.55) is enlarged? Yes."
    letters = [c for c in text if c.isalnum()]
    assert [c for c in "".join(split_sentences(text)) if c.isalnum()] == letters


@pytest.mark.parametrize("change", [str, str.lower])
def test_a_question_mark_ends_a_sentence_outside_brackets(change):
    text = change("Hiatal hernia? Heart size is normal. Mosaic pattern (bronchiolitis? vessel disease?) is seen.")
    assert split_sentences(text) == [
        change(part)
        for part in (
            "Hiatal hernia?",
            "Heart size is normal.",
            "Mosaic pattern (bronchiolitis? vessel disease?) is seen.",
        )
    ]


def test_a_question_inside_a_sentence_does_not_end_it():
    assert split_sentences("Consolidation? or atelectasis is seen.") == ["Consolidation? or atelectasis is seen."]
