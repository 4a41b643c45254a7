"""Scores of a list and a report out of one text: by hand, and through records."""

from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.metrics import RuleLabeler
from ct_vlm.tasks.list_scores import list_scores
from ct_vlm.tasks.report_records import report_records
from ct_vlm.tasks.report_scores import score_reports
from ct_vlm.text import CT_RATE_LABELS, render_abnormalities, render_cot

EFFUSION, NODULE = ("pleura", "Left effusion."), ("lung", "A nodule.")
CARDIOMEGALY = ("heart", "Cardiomegaly.")


def labels(*names):
    return [float(name in names) for name in CT_RATE_LABELS]


def records_of(written, true, reports):
    batch = {
        "volume_id": [f"train_{row}_a_1" for row in range(len(written))],
        "patient_id": [f"train_{row}" for row in range(len(written))],
        "report": reports,
        "abnormalities": [render_abnormalities(entries) for entries in true],
    }
    return report_records(written, batch, 0)


def test_records_hold_both_parts():
    text = render_cot([NODULE], "A nodule is seen.")
    record = records_of([text], [[EFFUSION]], ["Effusion."])[0]
    assert record["prediction"] == "A nodule is seen."
    assert record["abnormalities"] == "(Lung: A nodule.)"
    assert record["abnormalities_reference"] == "(Pleura: Left effusion.)"
    assert record["written"] == text
    assert record["reference"] == "Effusion."
    unknown = report_records([text], {"volume_id": ["a"], "abnormalities": [None]}, 0)[0]
    assert unknown == {"id": "a", "volume_id": "a", "written": text, "prediction": "A nodule is seen."} | {
        "abnormalities": "(Lung: A nodule.)"
    }
    plain = report_records([text], {"volume_id": ["a"], "report": ["x"]}, 0)[0]
    assert plain["prediction"] == text
    assert "abnormalities" not in plain


def test_each_part_is_scored_by_itself():
    # the list finds the nodule, the report the effusion, and neither the large heart
    written = [render_cot([NODULE, ("lung", "Emphysema.")], "Effusion on the left."), render_cot([], "Clear lungs.")]
    true = [[NODULE, EFFUSION, CARDIOMEGALY], []]
    reports = ["A nodule. Left pleural effusion. Cardiomegaly.", "Lungs are clear."]
    scores = score_reports(records_of(written, true, reports))
    assert scores["list/micro_precision"] == pytest.approx(1 / 2)
    assert scores["list/micro_recall"] == pytest.approx(1 / 3)
    assert scores["micro_precision"] == pytest.approx(1)
    assert scores["micro_recall"] == pytest.approx(1 / 3)
    assert scores["both/micro_precision"] == pytest.approx(2 / 3)
    assert scores["both/micro_recall"] == pytest.approx(2 / 3)
    assert scores["list/exact_precision"] == pytest.approx(1 / 2)
    assert scores["list/exact_recall"] == pytest.approx(1 / 3)
    assert scores["list/problems"] == 0


def test_entries_in_another_region_or_wording():
    written = [render_cot([("pleura", "A nodule."), ("pleura", "EFFUSION on the  left")], "x")]
    scores = list_scores(
        records_of(written, [[NODULE, ("pleura", "Effusion on the left.")]], ["x"]), RuleLabeler(), None
    )
    assert scores["list/exact_f1"] == pytest.approx(1 / 2)
    assert scores["list/region_f1"] == pytest.approx(1 / 2)
    assert "list/micro_f1" not in scores


def test_unreadable_and_empty_lists():
    written = ["Abnormalities:\n(Lung: A nodule", "Lungs are clear."]
    scores = list_scores(records_of(written, [[NODULE], []], ["x", "y"]), RuleLabeler(), np.array([labels(), labels()]))
    assert scores["list/problems"] == 1
    assert scores["list/exact_recall"] == 1
    empty = list_scores(records_of([render_cot([], "x")], [[]], ["x"]), RuleLabeler(), None)
    assert empty == {"list/problems": 0.0}
