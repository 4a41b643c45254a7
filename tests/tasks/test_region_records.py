"""Records, scores and tables of reports that are written region by region."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from ct_vlm.callbacks import ReportWriter
from ct_vlm.errors import ConfigError
from ct_vlm.tasks.checks import check_same_regions
from ct_vlm.tasks.records import EpochRecords
from ct_vlm.tasks.report_records import region_records, report_records
from ct_vlm.tasks.report_scores import score_reports
from ct_vlm.text import RegionPrompts, parse_region_reports

REGIONS = ("lung", "heart and great vessels")
CLEAR, NODULE = "The lungs are clear.", "There is a nodule in the right upper lobe."
NORMAL, LARGE = "Heart size is normal.", "Cardiomegaly is seen."
TRUE = [{"lung": NODULE, "heart and great vessels": NORMAL}, {"lung": CLEAR, "heart and great vessels": LARGE}]


def records(written=None, **changes) -> list:
    batch = {
        "volume_id": ["a", "b"],
        "patient_id": ["p", "q"],
        "report": [" ".join(texts.values()) for texts in TRUE],
        "region_reports": TRUE,
        **changes,
    }
    return region_records(written or TRUE, RegionPrompts(REGIONS), batch, 0)


def test_records_hold_the_merged_report_and_the_texts_of_regions():
    first = records()[0]
    assert first["prediction"] == f"Lung: {NODULE}\nHeart and great vessels: {NORMAL}"
    assert parse_region_reports(first["prediction"]) == first["region_reports"] == TRUE[0]
    assert first["region_references"] == TRUE[0]
    assert "region_references" not in records(region_reports=None)[0]


def test_perfect_reports_score_perfectly_headings_or_not():
    scores = score_reports(records())
    assert scores["bleu_4"] == pytest.approx(1.0)
    assert scores["micro_f1"] == 1.0
    assert scores["regions/micro_f1"] == 1.0
    assert scores["region/lung/bleu_4"] == pytest.approx(1.0)
    headed = [f"Lung: {t['lung']} Heart and great vessels: {t['heart and great vessels']}" for t in TRUE]
    assert score_reports(records(report=headed))["bleu_4"] == pytest.approx(1.0)


def test_a_finding_in_the_wrong_region_costs_both_regions():
    swapped = [dict(zip(REGIONS, reversed(list(texts.values())), strict=True)) for texts in TRUE]
    scores = score_reports(records(swapped))
    assert scores["micro_f1"] == 1.0
    assert scores["regions/micro_f1"] == 0.0


def test_regions_of_ones_own_are_scored_under_their_names():
    written = [{"left side": NODULE}, {"left side": CLEAR}]
    rows = region_records(
        written, RegionPrompts(["left side"]),
        {"volume_id": ["a", "b"], "report": [NODULE, NODULE], "region_reports": [{"left side": NODULE}] * 2}, 0,
    )  # fmt: skip
    scores = score_reports(rows)
    assert scores["region/left side/micro_recall"] == 0.5
    assert scores["region/left side/coverage"] == 1.0


def test_questions_about_one_volume_are_samples_of_their_own():
    batch = {
        "volume_id": ["a", "a", "b"],
        "prompt": ["Any?", "Where?", "Any?"],
        "task": ["presence", "location", "presence"],
    }
    kept = EpochRecords()
    kept.add(report_records(["yes", "left", "no"], {**batch, "report": ["yes", "left", "no"]}, 0))
    merged = kept.merge()
    assert [(r["volume_id"], r["prompt"], r["prediction"]) for r in merged] == [
        ("a", "Any?", "yes"), ("a", "Where?", "left"), ("b", "Any?", "no"),
    ]  # fmt: skip
    assert [r["task"] for r in merged] == ["presence", "location", "presence"]


class OneProcess:
    is_global_zero = True


def test_the_writer_has_a_column_a_region(tmp_path):
    table = tmp_path / "reports.csv"
    short = [TRUE[0], {**TRUE[1], "lung": ""}]
    ReportWriter(table).write_on_epoch_end(OneProcess(), None, [records(short)], [])
    rows = pd.read_csv(table, keep_default_na=False)
    assert list(rows.columns) == [
        "volume_id", "patient_id", "prediction", "reference", "region:lung", "region:heart and great vessels",
        "region_reference:lung", "region_reference:heart and great vessels",
    ]  # fmt: skip
    assert rows["region:lung"].tolist() == [NODULE, ""]
    assert parse_region_reports(rows.prediction[1]) == {"heart and great vessels": LARGE}


def test_the_writer_keeps_every_question(tmp_path):
    table = tmp_path / "answers.csv"
    batch = {"volume_id": ["a", "a"], "prompt": ["Any?", "Where?"], "labels": torch.zeros(2, 18)}
    ReportWriter(table).write_on_epoch_end(OneProcess(), None, [report_records(["yes", "left"], batch, 0)], [])
    rows = pd.read_csv(table)
    assert rows.volume_id.tolist() == ["a", "a"]
    assert rows.prompt.tolist() == ["Any?", "Where?"]


def test_masks_of_other_regions_or_in_another_order_are_refused():
    scans = SimpleNamespace(regions=("lung", "bone"))
    for dataset in (scans, SimpleNamespace(dataset=scans)):
        data = SimpleNamespace(datasets={"train": dataset, "other": object()})
        check_same_regions(None, data, by_mask=True)
        check_same_regions(("lung", "bone"), data, by_mask=True)
        check_same_regions(("bone",), data, by_mask=False)
        for names, by_mask in ((("bone", "lung"), True), (("lung",), True), (("lung", "heart"), False)):
            with pytest.raises(ConfigError, match=r"but the data has \['lung', 'bone'\]"):
                check_same_regions(names, data, by_mask=by_mask)
