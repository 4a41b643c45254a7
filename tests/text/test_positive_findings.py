from __future__ import annotations

import math
import random

import pytest

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.metrics import RuleLabeler
from ct_vlm.text import (
    CT_RATE_LABELS,
    NORMAL_FINDINGS,
    POSITIVE_TEMPLATES,
    mine_positive_sentences,
    positive_findings,
    positive_sentences,
)

REPORT = (
    "The trachea is open. Heart size is increased and there is a pericardial effusion of 9 mm. "
    "No pleural effusion was observed. A 4 mm nodule is seen in the left lung. "
    "Another nodule of 6 mm is seen in the right lung. Liver is normal."
)


@pytest.fixture(scope="module")
def labeler():
    return RuleLabeler()


def labels_of(*names):
    assert set(names) <= set(CT_RATE_LABELS)
    return [float(name in names) for name in CT_RATE_LABELS]


def test_there_are_sentences_for_every_label_and_each_states_its_label_alone(labeler):
    assert tuple(POSITIVE_TEMPLATES) == CT_RATE_LABELS
    for name, sentences in POSITIVE_TEMPLATES.items():
        assert len(set(sentences)) == len(sentences) >= 3
        for sentence, row in zip(sentences, labeler(sentences), strict=True):
            assert row.tolist() == labels_of(name), sentence
    assert not labeler(NORMAL_FINDINGS).any()


def test_labels_come_back_from_random_sets(labeler):
    rng = random.Random(0)
    sets = [[float(rng.random() < share) for _ in CT_RATE_LABELS] for share in (0.05, 0.2, 0.5, 0.9) for _ in range(50)]
    texts = [positive_findings(labels, seed=number) for number, labels in enumerate(sets)]
    for text, labels, row in zip(texts, sets, labeler(texts), strict=True):
        assert row.tolist() == labels, text


def test_every_label_and_every_phrasing_is_reached(labeler):
    for name in CT_RATE_LABELS:
        texts = {positive_findings(labels_of(name), seed=seed) for seed in range(60)}
        assert texts == set(POSITIVE_TEMPLATES[name])


def test_none_is_the_normal_sentence():
    assert positive_findings([0.0] * 18, seed=1) == "No significant thoracic abnormalities identified."
    assert positive_findings([0.0] * 18, seed=1, normal="Normal.") == "Normal."


def test_order_and_phrasing_follow_the_seed_alone():
    labels = labels_of("Emphysema", "Consolidation", "Bronchiectasis")
    random.seed(5)
    state = random.getstate()
    texts = [positive_findings(labels, seed=f"train_1_a_1/{epoch}") for epoch in range(40)]
    assert random.getstate() == state
    assert texts == [positive_findings(labels, seed=f"train_1_a_1/{epoch}") for epoch in range(40)]
    templates = {name: [f"{name}."] for name in CT_RATE_LABELS}
    orders = {positive_findings(labels, seed=seed, templates=templates) for seed in range(60)}
    assert len(orders) == math.factorial(3)


def test_unknown_labels_are_passed_over():
    labels = labels_of("Emphysema")
    labels[0] = math.nan
    assert positive_findings(labels, seed=0) in POSITIVE_TEMPLATES["Emphysema"]


def test_sentences_are_mined_by_label(labeler):
    mined = mine_positive_sentences(REPORT, labeler)
    heart = "Heart size is increased and there is a pericardial effusion of 9 mm."
    nodules = ["A 4 mm nodule is seen in the left lung.", "Another nodule of 6 mm is seen in the right lung."]
    assert mined == {"Cardiomegaly": [heart], "Pericardial effusion": [heart], "Lung nodule": nodules}
    assert mine_positive_sentences(None, labeler) == mine_positive_sentences("Not given.", labeler) == {}
    assert list(mined) == sorted(mined, key=CT_RATE_LABELS.index)


def test_mined_text_holds_each_positive_sentence_once_in_random_order(labeler):
    texts = {positive_sentences(REPORT, labeler, seed=seed) for seed in range(20)}
    heart, *nodules = (s for found in mine_positive_sentences(REPORT, labeler).values() for s in found if s)
    nodules = nodules[-2:]
    assert texts == {" ".join([heart, *nodules]), " ".join([*nodules, heart])}


def test_labels_decide_what_is_kept_and_templates_fill_gaps(labeler):
    labels = labels_of("Lung nodule", "Emphysema")
    text = positive_sentences(REPORT, labeler, labels, seed=3)
    assert "4 mm nodule" in text
    assert "effusion" not in text
    assert any(sentence in text for sentence in POSITIVE_TEMPLATES["Emphysema"])
    assert labeler(text)[0].tolist() == labels
    without = positive_sentences(REPORT, labeler, labels, seed=3, templates=None)
    assert "mphysem" not in without
    assert positive_sentences(None, labeler, labels_of("Emphysema"), seed=0) in POSITIVE_TEMPLATES["Emphysema"]


def test_a_normal_report_gives_the_normal_sentence(labeler):
    assert positive_sentences("The trachea is open. No nodule is seen.", labeler, seed=0) == NORMAL_FINDINGS
    assert positive_sentences(REPORT, labeler, [0.0] * 18, seed=0) == NORMAL_FINDINGS


def test_sentences_without_a_full_stop_do_not_run_into_each_other(labeler):
    text = positive_sentences("Cardiomegaly is seen\nEmphysema of both lungs", labeler, seed=0)
    parts = ["Cardiomegaly is seen.", "Emphysema of both lungs."]
    assert text in {" ".join(parts), " ".join(parts[::-1])}
    assert labeler(text)[0].tolist() == labels_of("Cardiomegaly", "Emphysema")


def test_other_labels_and_labelers():
    names = ("cold", "warm")
    templates = {"cold": ["It is cold."], "warm": ["It is warm."]}
    assert positive_findings([0, 1], seed=0, label_names=names, templates=templates) == "It is warm."

    def by_word(texts):
        return [[name in text for name in names] for text in texts]

    assert mine_positive_sentences("Sun is out. So warm.", by_word, names) == {"warm": ["So warm."]}
    text = positive_sentences("Sun is out. So warm.", by_word, seed=0, label_names=names, templates=templates)
    assert text == "So warm."


def test_named_errors(labeler):
    with pytest.raises(ShapeError, match="18 labels, but got 2"):
        positive_findings([0, 1], seed=0)
    with pytest.raises(ConfigError, match=r"0, 1 or NaN, but got 0\.7"):
        positive_findings([0.7] * 18, seed=0)
    with pytest.raises(ConfigError, match="No label is known"):
        positive_findings([math.nan] * 18, seed=0)
    with pytest.raises(ConfigError, match="No sentence states `Emphysema`"):
        positive_findings(labels_of("Emphysema"), seed=0, templates={"Cardiomegaly": ["x"]})
    with pytest.raises(ConfigError, match="neither a report nor labels"):
        positive_sentences("Not given.", labeler, seed=0)
    with pytest.raises(ShapeError, match="rows of 2 labels"):
        mine_positive_sentences(REPORT, labeler, ["a", "b"])
