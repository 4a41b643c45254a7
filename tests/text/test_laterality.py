from __future__ import annotations

import pytest

from ct_vlm.text.laterality import swap_laterality


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("right lung", "left lung"),
        ("Left and right.", "Right and left."),
        ("LEFT", "RIGHT"),
        ("left-sided effusion", "right-sided effusion"),
        ("leftward shift", "rightward shift"),
        ("upright position, cleft", "upright position, cleft"),
        ("left ventricle and right atrium", "left ventricle and right atrium"),
        ("right coronary artery, left main coronary artery", "right coronary artery, left main coronary artery"),
        ("left atrial dilatation with left effusion", "left atrial dilatation with right effusion"),
        ("left atelectasis", "right atelectasis"),
        ("bilateral", "bilateral"),
        ("left_lung_lower_lobe", "right_lung_lower_lobe"),
        ("Left/right", "Right/left"),
        ("3.5 mm right_left", "3.5 mm left_right"),
        ("bright copyright cleft leftover", "bright copyright cleft leftover"),
        ("", ""),
    ],
)
def test_swaps(text, expected):
    assert swap_laterality(text) == expected
    assert swap_laterality(swap_laterality(text)) == text
