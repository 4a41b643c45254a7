from __future__ import annotations

import math

import numpy as np
import pytest

from ct_vlm.errors import ConfigError
from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.labeler.engine import Sentence, WordIndex, find_mentions
from ct_vlm.metrics.labeler.lexicon import LABEL_RULES
from ct_vlm.metrics.labeler.negation import drop_pseudo_negations, find_negation
from ct_vlm.metrics.labeler.normalise import normalise, split_clauses
from ct_vlm.text.labels import CT_RATE_LABELS

REPORT = (
    "Trachea and both main bronchi are open. Heart size increased. Calcific plaques are seen in the aorta. "
    "Pleural effusion was not observed. A 3.5 mm nodule is seen in the right upper lobe."
)
POSITIVE = {"Cardiomegaly", "Arterial wall calcification", "Lung nodule"}


def named(row):
    return {name for name, value in zip(CT_RATE_LABELS, row, strict=True) if value}


def test_rules_are_in_the_order_of_the_labels():
    assert tuple(rule.label for rule in LABEL_RULES) == CT_RATE_LABELS


def test_shape_and_values(labeler):
    labels = labeler([REPORT, "", REPORT])
    assert labels.shape == (3, 18)
    assert labels.dtype == np.int64
    assert named(labels[0]) == POSITIVE
    assert labels[1].sum() == 0
    assert (labels[0] == labels[2]).all()


def test_no_reports(labeler):
    assert labeler([]).shape == (0, 18)


def test_one_string_is_one_report(labeler):
    assert (labeler(REPORT) == labeler([REPORT])).all()


@pytest.mark.parametrize("missing", [None, math.nan, "", "Not given."])
def test_missing_reports_have_no_label(labeler, missing):
    assert labeler([missing]).sum() == 0


@pytest.mark.parametrize("wrong", [3, 1.5, ["text"]])
def test_what_is_no_text_is_named(labeler, wrong):
    with pytest.raises(ConfigError, match="Report 1"):
        labeler(["Heart size is normal.", wrong])


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("A 3.5 mm (2,5 mm) nodule.", "a 3_5 mm, 2_5 mm, nodule"),
        ("Effusion/thickening wasn't seen", "effusion thickening was not seen"),
        ("[ROI] non-specific; a,b", "roi, non specific; a, b"),
        ("12.03.2021", "12_03_2021"),
    ],
)
def test_normalise(sentence, expected):
    assert normalise(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("no a, b or c was seen", ["no a, b or c was seen"]),
        ("trachea and main bronchi are open", ["trachea and main bronchi are open"]),
        ("a is seen, b was not seen", ["a is seen", "b was not seen"]),
        ("a is seen and b was not seen", ["a is seen", "b was not seen"]),
        ("no a was seen except for b", ["no a was seen", "b"]),
        (
            "nodules are seen, effusion, thickening were not seen",
            ["nodules are seen", "effusion, thickening were not seen"],
        ),
        ("there are nodules, effusion, and b was not seen", ["there are nodules, effusion", "b was not seen"]),
        ("", []),
    ],
)
def test_clauses(sentence, expected):
    assert split_clauses(sentence) == expected


@pytest.mark.parametrize(
    ("clause", "negated"),
    [
        ("no x is seen", True),
        ("x was not clearly observed", True),
        ("x could not be detected", True),
        ("x is absent", True),
        ("x has disappeared", True),
        ("x was ruled out", True),
        ("neither x nor y is seen", True),
        ("x is seen", False),
        ("x is not large", False),
        ("x not reaching pathological dimensions was observed", False),
        ("x is observed y was not observed", False),
        ("x observed in the previous examination was not observed", True),
    ],
)
def test_negation(clause, negated):
    start = clause.index("x")
    assert bool(find_negation(clause, start, start + 1)) == negated


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("no significant change in nodules", "in nodules"),
        ("x not observed in the previous examination is seen", "x is seen"),
        ("contrast material was not given", ""),
        ("x cannot be ruled out", "x unexcluded"),
        ("the cause of x could not be determined", "of x"),
        ("x is seen", "x is seen"),
        ("no emphysematous changes, x were seen", "no emphysematous changes, x were seen"),
    ],
)
def test_pseudo_negations(sentence, expected):
    assert drop_pseudo_negations(sentence) == expected


def test_the_index_skips_no_rule_that_would_match(sentences):
    index = WordIndex(LABEL_RULES)
    for line in sentences:
        sentence = Sentence(line)
        matching = {column for column, rule in enumerate(LABEL_RULES) if any(find_mentions(rule, sentence))}
        assert matching <= set(index.rules_of(sentence)), line


def test_what_was_read_before_changes_nothing(sentences):
    sentences = sentences[::7]
    used = RuleLabeler()
    used(sentences)
    assert (used(sentences[::-1]) == RuleLabeler()(sentences[::-1])).all()


def test_a_sentence_goes_on_about_the_organ_before(labeler):
    nodule = CT_RATE_LABELS.index("Lung nodule")
    after = {"The thyroid gland is large.": 0, "The liver is normal.": 1, "": 1}
    for _ in range(2):
        for before, expected in after.items():
            assert labeler([f"{before} Nodules are observed."])[0, nodule] == expected, before
    assert labeler(["The thyroid gland is large. Nodules are observed in the lungs."])[0, nodule] == 1
    assert labeler(["A nodule is seen in the adrenal gland. The largest nodule is 5 mm."])[0, nodule] == 0


def test_memory_of_sentences_is_bounded(monkeypatch):
    monkeypatch.setattr("ct_vlm.metrics.labeler.labeler._MAX_KNOWN", 10)
    labeler = RuleLabeler()
    labeler([f"Nodule number {number}." for number in range(50)])
    assert len(labeler._known) <= 10


def test_word_index_stays_small(monkeypatch):
    monkeypatch.setattr(WordIndex, "_MAX_WORDS", 10)
    index = WordIndex(LABEL_RULES)
    for number in range(100):
        assert index[f"{number}mm"] == frozenset()
    assert len(index) <= 10


@pytest.mark.parametrize(
    "text",
    [
        *("pleural " * 20_000, "no " * 20_000, "a, " * 20_000, "pericardial effusion and " * 5_000),
        *(
            "density increases " * 3_000,
            "nodule? " * 2_000,
            "nodule, effusion, " * 3_000,
            "cause of the nodule not " * 2_000,
        ),
    ],
)
def test_hostile_text_stays_linear(labeler, text):
    assert labeler([text]).shape == (1, 18)
