"""Files as people have them: other tools' columns, spreadsheets' habits, gaps."""

import csv
import json

import numpy as np
import pytest

from ct_vlm.cli.predictions import save_predictions
from ct_vlm.errors import CTVLMError, DatasetError
from ct_vlm.evaluation import (
    Extras,
    Files,
    ReportTable,
    Settings,
    compare,
    evaluate,
    evaluate_files,
    pair_reports,
    read_reports,
)
from ct_vlm.text.labels import CT_RATE_LABELS

FAST = Settings(metrics=["bleu", "rouge"], n_resamples=10)
TRUTH = {"valid_1_a_1": "Heart size increased.", "valid_2_a_1": "No pleural effusion.", "valid_3_a_1": "A lung nodule."}


def table(head, rows, separator=",", end="\n"):
    return end.join(separator.join(map(str, row)) for row in [head, *rows]) + end


def label_row(*names):
    return [int(label in names) for label in CT_RATE_LABELS]


@pytest.fixture
def references(write):
    """CT-RATE's own columns and names."""
    head = ["VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN"]
    return write(
        "valid_reports.csv", table(head, [[f"{k}.nii.gz", "Not given.", "CT", v, "x"] for k, v in TRUTH.items()])
    )


@pytest.fixture
def labels(write):
    rows = zip(TRUTH, (label_row("Cardiomegaly"), label_row(), label_row("Lung nodule")), strict=True)
    content = table(["VolumeName", *CT_RATE_LABELS], [[f"{name}.nii.gz", *row] for name, row in rows])
    return write("valid_predicted_labels.csv", content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("windows.csv", table(["volume_id", "prediction"], TRUTH.items(), end="\r\n")),
        ("excel.csv", "\ufeff" + table(["VolumeName", "Report"], TRUTH.items(), end="\r\n")),
        ("upper.csv", table(["VOLUMENAME", "PREDICTION"], TRUTH.items())),
        ("blank.csv", table(["VolumeName ", " Prediction"], TRUTH.items())),
        ("tabs.tsv", table(["id", "generated_report"], TRUTH.items(), "\t")),
        ("folders.csv", table(["id", "text"], [[f"/data/valid/{k}.nii.gz", v] for k, v in TRUTH.items()])),
        ("backslash.csv", table(["id", "text"], [[f"C:\\data\\{k}.mha", v] for k, v in TRUTH.items()])),
        ("records.jsonl", "\n".join(json.dumps({"id": k, "study_id": "s", "prediction": v}) for k, v in TRUTH.items())),
        (
            "both.csv",
            table(["AccessionNo", "report", *CT_RATE_LABELS], [[k, v, *label_row()] for k, v in TRUTH.items()]),
        ),
    ],
)
def test_predictions_of_every_habit_score_alike(write, references, name, content) -> None:
    found = evaluate_files(Files(write(name, content), references), FAST).results
    assert found["nlg"]["rouge_l"] == 1
    assert found["num_patients"] == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", table(["id", "prediction"], TRUTH.items(), ";"), r"cells of .*s\.csv. are separated by semicolons"),
        ("t.csv", table(["id", "prediction"], TRUTH.items(), "\t"), r"cells of .*t\.csv. are separated by tabs"),
        ("c.tsv", table(["id", "prediction"], TRUTH.items()), r"cells of .*c\.tsv. are separated by commas"),
        ("e.csv", "id,prediction\n", r"e\.csv. holds no rows"),
        ("e.jsonl", "\n", r"e\.jsonl. holds no rows"),
        ("d.csv", table(["id", "prediction"], [*TRUTH.items(), ("valid_1_a_1.nii.gz", "x")]), "lists 1 volume"),
        ("o.csv", table(["id", "prediction"], [("train_1_a_1", "x")]), "1 of 1 predictions have no reference"),
        ("x.csv", table(["id", "prediction"], [*TRUTH.items(), ("valid_9_a_1", "x")]), "1 of 4 predictions have no"),
        (
            "p.csv",
            table(["id", "Cardiomegaly", "Emphysema"], [("valid_1_a_1", 1, 0)]),
            "lacks the label columns Medical",
        ),
        (
            "l.csv",
            table(["id", *CT_RATE_LABELS], [("valid_1_a_1", 2, *label_row()[1:])]),
            r"'2' for 'Medical material'",
        ),
        ("q.csv", table(["id", *CT_RATE_LABELS], [("valid_1_a_1", 0.5, *label_row()[1:])]), r"'0.5' .* in line 2"),
    ],
)
def test_what_cannot_be_read_says_so(write, references, name, content, message) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        evaluate_files(Files(write(name, content), references), FAST)
    assert caught.value.cure


def test_missing_text_in_references_is_named(write) -> None:
    path = write("r.csv", table(["id", "reference"], [("a", "Normal."), ("b", "nan"), ("c", "")]))
    predictions = write("p.csv", table(["id", "prediction"], [("a", "Normal.")]))
    with pytest.raises(DatasetError, match="no report for 2 of 3 volumes: b, c"):
        evaluate_files(Files(predictions, path), FAST)


def test_all_predictions_missing_score_nothing_and_are_counted(write, references) -> None:
    found = evaluate_files(
        Files(write("p.csv", table(["id", "prediction"], [(k, "") for k in TRUTH])), references), FAST
    )
    scores = found.results
    assert (scores["nlg"]["missing_predictions"], scores["nlg"]["coverage"]) == (3, 0)
    assert scores["nlg"]["bleu_4"] == pytest.approx(0, abs=1e-6)
    assert scores["clinical"]["micro_f1"] == 0


def test_one_report_has_no_intervals_and_says_why(tmp_path) -> None:
    alone = ReportTable(("a",), ("Heart size increased.",))
    pairs = pair_reports(alone, alone)
    found = evaluate(pairs, FAST)
    assert found.scores["intervals"] == {}
    assert "only one" in found.scores["notes"][0]
    assert found.scores["clinical"]["micro_f1"] == 1
    compared = compare((pairs, found), (pairs, found), FAST)
    assert compared["difference"] == {}
    assert "only one" in compared["notes"][0]


def test_numbers_as_ids(write) -> None:
    predictions = write("p.json", [{"id": 12, "prediction": "A lung nodule."}, {"id": 13.0, "prediction": "Normal."}])
    references = write("r.csv", table(["id", "reference"], [("12.0", "A lung nodule."), (13, "Normal.")]))
    assert evaluate_files(Files(predictions, references), FAST).results["nlg"]["rouge_l"] == 1


def test_references_of_labels_alone(write, labels) -> None:
    predictions = write("p.csv", table(["id", "prediction"], TRUTH.items()))
    found = evaluate_files(Files(predictions, labels), FAST).results
    assert found["nlg"] is None
    assert found["clinical"]["micro_f1"] == 1
    assert (found["clinical"]["labeler"], found["clinical"]["target_labeler"]) == ("rules", "given")


def test_ground_truth_of_the_challenge(write) -> None:
    rows = [[f"{name}.mha", *label_row("Lung nodule")] for name in TRUTH]
    truth = write("ground_truth.csv", table(["AccessionNo", *CT_RATE_LABELS], rows))
    reports = [{"input_image_name": name, "report": "A lung nodule is seen."} for name in TRUTH]
    found = evaluate_files(Files(write("r.json", {"generated_reports": reports}), truth), FAST).results
    assert found["clinical"]["macro_f1"] == pytest.approx(1 / 18)
    assert found["crg"]["crg"] == 1


def test_records_of_predict(tmp_path) -> None:
    names = ("Cardiomegaly", "", "Lung nodule")
    records = [
        {"id": f"{k}.nii.gz", "prediction": v, "study_id": k[:-2], "patient_id": "p" + k[6], "reference": v,
         "labels": [float(x) for x in label_row(name)]}
        for (k, v), name in zip(TRUTH.items(), names, strict=True)
    ]  # fmt: skip
    path = save_predictions([records], tmp_path)
    found = evaluate_files(Files(path), FAST).results
    assert found["nlg"]["rouge_l"] == 1
    # the list holds the true labels, so predictions are labelled by their text
    assert (found["clinical"]["labeler"], found["clinical"]["target_labeler"]) == ("rules", "given")
    assert found["clinical"]["micro_f1"] == 1
    records[1]["labels"] = [0.0] * 3
    with pytest.raises(DatasetError, match=r"no list of 18 labels under 'labels' in line 2"):
        evaluate_files(Files(save_predictions([records], tmp_path)), FAST)


def test_csv_of_the_report_writer(tmp_path) -> None:
    from ct_vlm.callbacks import ReportWriter

    writer = ReportWriter(tmp_path / "p.csv")
    records = [
        {"id": k, "prediction": v, "reference": v, "study_id": k[:-2], "patient_id": k[:-4]} for k, v in TRUTH.items()
    ]
    writer.write_on_epoch_end(type("T", (), {"is_global_zero": True})(), None, [records], [])
    found = evaluate_files(Files(tmp_path / "p.csv"), FAST).results
    assert (found["num_patients"], found["patients_from"], found["nlg"]["rouge_l"]) == (3, "file", 1)


def test_labels_beside_both_texts_are_the_true_ones(write) -> None:
    rows = [[k, "Normal.", v, *label_row("Lung nodule")] for k, v in TRUTH.items()]
    path = write("p.csv", table(["id", "prediction", "reference", *CT_RATE_LABELS], rows))
    found = evaluate_files(Files(path), FAST).results
    assert found["clinical"]["micro_f1"] == 0
    assert (found["clinical"]["labeler"], found["clinical"]["target_labeler"]) == ("rules", "given")


def test_labels_of_another_split_are_refused(write, references, labels) -> None:
    predictions = write("p.csv", table(["id", "prediction"], TRUTH.items()))
    assert evaluate_files(Files(predictions, references, labels=labels), FAST).results["clinical"]["micro_f1"] == 1
    other = write("l.csv", table(["id", *CT_RATE_LABELS], [["train_1_a_1", *label_row()]]))
    with pytest.raises(DatasetError, match="no labels for 3 of 3 volumes"):
        evaluate_files(Files(predictions, references, labels=other), FAST)


def test_blank_labels_are_unknown(write) -> None:
    row = ["", "nan", "NaN", "1.0", *["0"] * 14]
    found = read_reports(write("l.csv", table(["id", *CT_RATE_LABELS], [["a", *row]])), "references").labels
    np.testing.assert_array_equal(found[0, :4], [np.nan, np.nan, np.nan, 1])


def test_long_reports_with_quotes_commas_and_line_breaks(tmp_path) -> None:
    text = 'Heart, "size" normal.\n' * 10_000
    path = tmp_path / "p.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "prediction"], ["a", text]])
    assert read_reports(path).reports == (text.strip(),)


def test_wrong_settings_are_named(write, references) -> None:
    predictions = write("p.csv", table(["id", "prediction"], TRUTH.items()))
    for settings, extras in (
        (Settings(protocol="bleu"), Extras()),
        (Settings(metrics=["blue"]), Extras()),
        (Settings(labeler="chexbert"), Extras()),
        (FAST, Extras(regions="seven")),
    ):
        with pytest.raises(CTVLMError):
            evaluate_files(Files(predictions, references), settings, extras)
