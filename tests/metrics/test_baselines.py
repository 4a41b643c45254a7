from __future__ import annotations

import json

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics import RuleLabeler, TemplateWriter, frequent_report, random_reports, retrieve_reports
from ct_vlm.metrics.functional import clinical_scores
from ct_vlm.phantoms import describe_phantom

TEXTS = ["Normal.", "Effusion.", "normal. ", "Nodule."]


@pytest.fixture(scope="module")
def cohort():
    """Reports and labels of phantoms: training ones and others."""
    facts = [describe_phantom(seed, (32, 48, 48)) for seed in range(240)]
    reports, labels = [f.findings_text for f in facts], np.array([f.labels for f in facts])
    return (reports[:200], labels[:200]), (reports[200:], labels[200:])


def test_the_most_frequent_report():
    assert frequent_report(TEXTS, 3) == ["Normal."] * 3


def test_random_reports_come_from_training():
    drawn = random_reports(TEXTS, 200, seed=1)
    assert set(drawn) == set(TEXTS)
    assert drawn == random_reports(TEXTS, 200, seed=1)
    assert drawn != random_reports(TEXTS, 200, seed=2)


def test_retrieval_by_features_is_the_exhaustive_search():
    rng = np.random.default_rng(0)
    train, queries = rng.normal(size=(50, 6)), rng.normal(size=(300, 6))
    texts = [str(i) for i in range(50)]
    expected = [
        max(range(50), key=lambda i: train[i] @ q / np.linalg.norm(train[i]) / np.linalg.norm(q)) for q in queries
    ]
    assert retrieve_reports(texts, train, queries) == [texts[i] for i in expected]
    assert retrieve_reports(texts, train, 7 * queries) == [texts[i] for i in expected]
    assert retrieve_reports(texts, train, []) == []


def test_retrieval_by_labels_counts_agreements():
    train = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0]]
    found = retrieve_reports(list("abcd"), train, [[1, 1, 1], [0, 0, 0], [1, 0, 1]], similarity="labels")
    assert found == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], [], [[1]]), DatasetError, "no training report"),
        ((["a"], [[1], [2]], [[1]]), ShapeError, "1 reports"),
        ((["a"], [[1]], [[1, 2]]), ShapeError, r"\(1, 2\)"),
        ((["a"], [1], [[1]]), ShapeError, "`train_vectors`"),
        ((["a"], [[1]], [[1], [float("nan")]]), DatasetError, "`query_vectors` is not finite in row 1"),
        ((["a"], [[1]], [[1]], "euclid"), ConfigError, "'euclid'"),
        (([None], [[1]], [[1]]), DatasetError, "row 0"),
    ],
)
def test_wrong_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        retrieve_reports(*arguments)


def test_templates_say_the_labels_they_are_given(cohort):
    (reports, _), (_, labels) = cohort
    writer = TemplateWriter.fit(reports)
    scores = clinical_scores(RuleLabeler()(writer.write(labels)), labels)
    assert scores["micro_f1"] > 0.97
    assert writer.invented == ()


def test_templates_of_no_labels_state_none_and_are_sentences_of_training(cohort):
    (reports, _), _ = cohort
    writer = TemplateWriter.fit(reports)
    (empty,) = writer.write(np.zeros((1, 18)))
    assert RuleLabeler()([empty]).sum() == 0
    assert len(empty.split(". ")) >= 6
    assert all(any(sentence in report for report in reports) for sentence in writer.order)


def test_normal_sentences_give_way_to_findings():
    reports = ["Heart size is normal. Lungs are clear."] * 6 + ["Cardiomegaly. Lungs are clear."] * 3
    writer = TemplateWriter.fit(reports)
    column = writer.label_names.index("Cardiomegaly")
    (text,) = writer.write([[int(k == column) for k in range(18)]])
    assert text == "Cardiomegaly. Lungs are clear."


def test_frequent_and_random_labels(cohort):
    writer = TemplateWriter.fit(cohort[0][0], cohort[0][1])
    assert writer.write_frequent(2) == writer.write(np.zeros((2, 18)))
    drawn = RuleLabeler()(writer.write_random(300, seed=0)).mean(axis=0)
    assert drawn == pytest.approx(list(writer.frequencies.values()), abs=0.12)
    assert list(writer.frequencies.values()) == pytest.approx(cohort[0][1].mean(axis=0))


def test_labels_that_no_sentence_states_are_named():
    writer = TemplateWriter.fit(["Lungs are clear."])
    assert set(writer.invented) == set(writer.label_names)
    labels = np.eye(18, dtype=int)
    assert (RuleLabeler()(writer.write(labels)) >= labels).mean() > 0.98


def test_templates_survive_json(cohort):
    writer = TemplateWriter.fit(cohort[0][0])
    saved = json.loads(json.dumps(writer.to_dict()))
    assert TemplateWriter.from_dict(saved) == writer
    with pytest.raises(ConfigError, match="label_names"):
        TemplateWriter.from_dict({})
    with pytest.raises(DatasetError, match="No training report"):
        TemplateWriter.fit([])


def test_knowing_more_scores_more(cohort):
    """The ladder that a model is measured against: chance, label retrieval, template of true labels."""
    (reports, known), (_, labels) = cohort
    writer = TemplateWriter.fit(reports)
    written = {
        "random": random_reports(reports, len(labels)),
        "retrieval": retrieve_reports(reports, known, labels, "labels"),
        "template": writer.write(labels),
    }
    f1 = {name: clinical_scores(RuleLabeler()(texts), labels)["micro_f1"] for name, texts in written.items()}
    assert f1["random"] < f1["retrieval"] < f1["template"]
