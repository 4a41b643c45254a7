from __future__ import annotations

import dataclasses
import math

import pytest

from ct_vlm.metrics import Decision, Mention, RuleLabeler

REPORT = "Heart size is normal and pleural effusion was not observed. A nodule is suspected in the lingula. Emphysema."


@pytest.fixture(scope="module")
def explained():
    return RuleLabeler("nan").explain(REPORT)


def test_every_label_has_a_decision(explained):
    assert {label: decision.label for label, decision in explained.items()} == {label: label for label in explained}
    assert {label: decision.status for label, decision in explained.items() if decision.mentions} == {
        "Pleural effusion": "negative",
        "Lung nodule": "uncertain",
        "Emphysema": "positive",
    }
    assert explained["Consolidation"] == Decision("Consolidation", 0.0, ())
    assert explained["Consolidation"].status == "not mentioned"


def test_values_follow_the_option(explained):
    assert math.isnan(explained["Lung nodule"].value)
    assert RuleLabeler().explain(REPORT)["Lung nodule"].value == 1
    assert RuleLabeler("negative").explain(REPORT)["Lung nodule"].value == 0


def test_a_mention_says_where_and_why(explained):
    (mention,) = explained["Pleural effusion"].mentions
    assert dataclasses.asdict(mention) == {
        "label": "Pleural effusion",
        "rule": "effusion",
        "words": "effusion",
        "negated": True,
        "cue": "not observed",
        "doubt": "",
        "clause": "pleural effusion was not observed",
        "sentence": "Heart size is normal and pleural effusion was not observed.",
    }


def test_the_strongest_mention_decides():
    mention = Mention("Emphysema", "emphysema", "emphysema", False, "", "", "emphysema", "Emphysema.")
    denied = dataclasses.replace(mention, negated=True, cue="no")
    doubted = dataclasses.replace(mention, doubt="?")
    assert Decision("Emphysema", 1, (denied, doubted, mention)).status == "positive"
    assert Decision("Emphysema", 1, (denied, doubted)).status == "uncertain"
    assert Decision("Emphysema", 0, (denied,)).status == "negative"


def test_readable_account(explained):
    assert str(explained).splitlines() == [
        "[1] Emphysema",
        '    positive: "emphysema" (emphysema) in: Emphysema.',
        "[?] Lung nodule",
        '    uncertain: "nodule" (nodule, left open by "is suspected") in: A nodule is suspected in the lingula.',
        "[0] Pleural effusion",
        '    negative: "effusion" (effusion, denied by "not observed") in: '
        "Heart size is normal and pleural effusion was not observed.",
    ]
    assert str(RuleLabeler().explain("")) == "No label is mentioned."


def test_mentions_keep_the_order_of_the_text():
    mentions = RuleLabeler().explain("No nodule on the left. A nodule on the right.")["Lung nodule"].mentions
    assert [mention.negated for mention in mentions] == [True, False]
