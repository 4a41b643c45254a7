from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.errors import ConfigError
from ct_vlm.metrics import RuleLabeler
from ct_vlm.text.labels import CT_RATE_LABELS

OPEN = "Consolidation cannot be excluded at the left base. Emphysema is marked."
CONSOLIDATION = CT_RATE_LABELS.index("Consolidation")
EMPHYSEMA = CT_RATE_LABELS.index("Emphysema")


@pytest.mark.parametrize(("uncertain", "value"), [("positive", 1), ("negative", 0)])
def test_what_is_left_open_counts_as_asked(uncertain, value):
    row = RuleLabeler(uncertain)([OPEN])[0]
    assert row.dtype == np.int64
    assert (row[CONSOLIDATION], row[EMPHYSEMA]) == (value, 1)


def test_what_is_left_open_may_be_nan():
    labels = RuleLabeler("nan")([OPEN, f"{OPEN} Consolidation is seen on the right."])
    assert labels.dtype == np.float64
    assert np.isnan(labels[0, CONSOLIDATION])
    assert np.isnan(labels).sum() == 1
    assert labels[1, CONSOLIDATION] == labels[0, EMPHYSEMA] == 1


def test_what_is_denied_is_not_open():
    assert RuleLabeler("nan")(["Possible consolidation was ruled out."])[0, CONSOLIDATION] == 0


def test_own_phrases_are_found_and_denied():
    labeler = RuleLabeler(extra={"Lung opacity": [r"infiltrat\w+", "white lung"]})
    opacity = CT_RATE_LABELS.index("Lung opacity")
    texts = ["Alveolar infiltration in the lingula.", "White-lung.", "No infiltrate.", "Ground glass area.", "Normal."]
    assert labeler(texts)[:, opacity].tolist() == [1, 1, 0, 1, 0]
    assert RuleLabeler()(texts)[:, opacity].tolist() == [0, 0, 0, 1, 0]
    assert labeler.explain(texts[0])["Lung opacity"].mentions[0].rule == "extra"


def test_own_phrases_of_one_label_leave_the_others(sentences):
    labeler = RuleLabeler(extra={"Hiatal hernia": ["no such words"]})
    np.testing.assert_array_equal(labeler(sentences), RuleLabeler()(sentences))


def test_findings_can_be_switched_off():
    text = "A bulla at the apex. Emphysema at the base."
    labeler = RuleLabeler(without=["emphysema"])
    assert [m.rule for m in labeler.explain(text)["Emphysema"].mentions] == ["bulla"]
    assert labeler(["Emphysema at the base."]).sum() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"uncertain": "maybe"}, "'maybe'"),
        ({"extra": {"Pneumonia": ["x"]}}, "label 'Pneumonia'"),
        ({"extra": {"Emphysema": ["(x"]}}, r"'\(x' for 'Emphysema'"),
        ({"without": ["emphysemas"]}, "finding 'emphysemas'"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        RuleLabeler(**options)


def test_repr_builds_the_same_labeler():
    assert repr(RuleLabeler()) == "RuleLabeler()"
    made = RuleLabeler("nan", extra={"Emphysema": ["air"]}, without=["nodule"])
    assert repr(eval(repr(made))) == repr(made)
