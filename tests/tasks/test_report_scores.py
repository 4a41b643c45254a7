from __future__ import annotations

import pytest

from ct_vlm.tasks.report_scores import score_reports

TEXTS = ["Heart size increased.", "Pleural effusion is seen.", "A nodule is seen.", "Normal."]


def records(patients="abcd", **more) -> list[dict]:
    rows = zip(TEXTS, patients, strict=True)
    return [{"id": str(i), "prediction": t, "reference": t, "patient_id": p, **more} for i, (t, p) in enumerate(rows)]


class TwoLabels:
    name = "two"
    label_names = ("Nodule", "Effusion")

    def __call__(self, texts):
        return [[int("nodule" in text), int("effusion" in text)] for text in texts]


def test_right_reports_score_one_and_worse_against_other_patients():
    scores = score_reports(records())
    assert scores["micro_f1"] == 1.0
    assert scores["shuffled_micro_f1"] < 1.0
    assert scores["labeler"] == "rules"
    assert scores["distinct_reports"] == 4


def test_one_patient_with_most_samples_omits_the_control_with_a_warning(caplog):
    scores = score_reports(records("aaab"))
    assert scores["micro_f1"] == 1.0
    assert not any(key.startswith("shuffled") for key in scores)
    assert "'a' has 3 of 4 samples" in caplog.text


def test_labels_that_the_labeler_does_not_find_omit_label_scores_with_a_warning(caplog):
    scores = score_reports(records(labels=[1.0, 0.0, 1.0]))
    assert "micro_f1" not in scores
    assert scores["bleu_1"] == pytest.approx(1.0)
    assert "[3] labels, but the labeler finds 18" in caplog.text


def test_samples_without_text_or_labels_of_all_omit_label_scores(caplog):
    rows = records()
    rows[1] = {**rows[1], "reference": None, "labels": [0.0] * 18}
    assert score_reports(rows) == {"distinct_reports": 4}
    assert "No label scores" in caplog.text


def test_own_labeler_scores_its_own_labels():
    scores = score_reports(
        [{**r, "labels": [0.0, float(i == 1)]} for i, r in enumerate(records())], labeler=TwoLabels()
    )
    assert scores["labeler"] == "two"
    # the nodule of the third report is wrong by these labels
    assert scores["micro_precision"] == 0.5
    assert set(scores["per_label"]) == {"Nodule", "Effusion"}


def test_no_references_no_scores():
    assert score_reports([{"id": "a", "prediction": "x"}]) == {}
