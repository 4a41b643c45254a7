"""Baselines, regions, probabilities and outside scorers beside the scores."""

import json

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.evaluation import (
    Extras,
    Files,
    ReportTable,
    Settings,
    baseline_scores,
    evaluate,
    evaluate_files,
    outside_scores,
    pair_reports,
    read_reliance,
    score_probabilities,
)
from ct_vlm.evaluation.classifier import ORACLE
from ct_vlm.evaluation.scorers import parse_models
from ct_vlm.metrics.functional import clinical_scores
from ct_vlm.text.labels import CT_RATE_LABELS

FAST = Settings(metrics=["bleu", "rouge", "cider"], n_resamples=0)
TRAIN = ReportTable(
    ("train_1_a_1", "train_2_a_1", "train_3_a_1"),
    ("Heart size increased. Lungs are clear.", "Heart size is normal. Pleural effusion.", "Heart size is normal."),
    source="train.csv",
)


def probabilities(ids, values):
    head = ",".join(["VolumeName", *CT_RATE_LABELS])
    return "\n".join([head, *(",".join([name, *map(str, row)]) for name, row in zip(ids, values, strict=True))]) + "\n"


def test_baselines_know_labels_and_nothing_else(predictions, references) -> None:
    pairs = pair_reports(predictions, references)
    found = evaluate(pairs, FAST)
    rows = baseline_scores(pairs, found, TRAIN, FAST)
    assert list(rows) == [
        "most frequent report", "random reports", "template", "retrieval by labels", "template (oracle)",
    ]  # fmt: skip
    assert set(rows["template"]["nlg"]) >= {"bleu_4", "rouge_l", "cider"}
    expected = np.nan_to_num(found.predicted_labels)
    # the template says what the system's labels are: only where no training sentence does, its own
    assert rows["template"]["clinical"]["micro_f1"] == pytest.approx(
        clinical_scores(expected, found.target_labels)["micro_f1"]
    )
    assert rows["template (oracle)"]["clinical"]["micro_f1"] == 1
    json.dumps(rows, allow_nan=False)


def test_baselines_refuse_evaluated_volumes_and_missing_labels(predictions, references) -> None:
    pairs = pair_reports(predictions, references)
    found = evaluate(pairs, FAST)
    with pytest.raises(DatasetError, match="4 evaluated volume"):
        baseline_scores(pairs, found, references, FAST)
    with pytest.raises(DatasetError, match="no training reports"):
        baseline_scores(pairs, found, ReportTable(("a",), labels=np.zeros((1, 18))), FAST)
    with pytest.raises(ConfigError, match="cannot label"):
        baseline_scores(pairs, found, TRAIN, Settings(labeler="given"))


def test_collapse_has_label_sets(predictions, references) -> None:
    collapse = evaluate(pair_reports(predictions, references), FAST).scores["collapse"]
    assert collapse["distinct_reports"] == 4
    assert 0 < collapse["label_set_entropy"] <= collapse["label_set_entropy_limit"] == 2


def test_extras_of_files_are_in_results_and_page(write, tmp_path, predictions, references) -> None:
    system, truth, train = (
        write(f"{name}.csv", f"id,{name}\n" + "".join(f"{k},{v or ''}\n" for k, v in rows))
        for name, rows in (
            ("prediction", zip(predictions.ids, predictions.reports, strict=True)),
            ("reference", zip(references.ids, references.reports, strict=True)),
            ("report", zip(TRAIN.ids, TRAIN.reports, strict=True)),
        )
    )
    values = np.linspace(0, 1, 72).reshape(4, 18)
    files = Files(system, truth, train_reports=train, scores=write("s.csv", probabilities(references.ids, values)),
                  calibration=ORACLE)  # fmt: skip
    study = evaluate_files(files, FAST, Extras(regions="six", scorers=("green",)))
    study.write(tmp_path / "out")
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["regions"]["scheme"] == "medregion"
    assert "coverage" in found["regions"]["mean"]
    assert found["classifier"]["thresholds"]["oracle"] is True
    assert list(found["scorers"]["skipped"]) == ["green"]
    page = (tmp_path / "out" / "report.html").read_text()
    for expected in ("Baselines", "template (oracle)", "medregion", "Label probabilities", "not computed: green"):
        assert expected in page


def test_training_labels_of_a_file_of_their_own(write, predictions, references) -> None:
    paths = {
        "predictions": write("p.csv", "id,prediction\nvalid_1_a_1,Heart size increased.\n"),
        "references": write("r.csv", "id,reference\nvalid_1_a_1,Heart size increased.\n"),
        "train_reports": write("t.csv", "id,report\ntrain_1_a_1,Cardiomegaly.\ntrain_2_a_1,Normal.\n"),
        "train_labels": write("l.csv", probabilities(["train_2_a_1", "train_1_a_1"], np.eye(18)[[0, 2]].astype(int))),
    }
    rows = evaluate_files(Files(**paths), FAST).results["baselines"]
    assert rows["retrieval by labels"]["nlg"]["rouge_l"] == 0  # "Cardiomegaly.", by its label
    assert rows["retrieval by labels"]["clinical"]["micro_f1"] == 1


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    labels = (rng.random((40, 18)) < 0.4).astype(float)
    return labels, np.clip(0.3 * labels + 0.3 * rng.random((40, 18)), 0, 1)


def test_thresholds_come_from_the_calibration_split(write, split) -> None:
    labels, values = split
    ids = [f"valid_{i}_a_1" for i in range(20)]
    test = write("s.csv", probabilities(ids, values[:20]))
    other = [f"train_{i}_a_1" for i in range(20)]
    calibration = write("c.csv", probabilities(other, values[20:]))
    truth, known = ReportTable(tuple(ids), labels=labels[:20]), ReportTable(tuple(other), labels=labels[20:])
    alone = score_probabilities(test, truth)
    assert {"calibrated", "oracle", "thresholds"}.isdisjoint(alone)
    found = score_probabilities(test, truth, calibration, known)
    assert found["calibrated"]["macro_f1"] > found["fixed"]["macro_f1"]
    assert found["ranking"]["macro_auroc"] > 0.9
    best = score_probabilities(test, truth, ORACLE)
    assert best["oracle"]["macro_f1"] >= found["calibrated"]["macro_f1"]
    assert "calibrated" not in best
    with pytest.raises(DatasetError, match="fitted on the very data"):
        score_probabilities(test, truth, test, truth)
    with pytest.raises(DatasetError, match="no true labels"):
        score_probabilities(test, truth, calibration)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((1, 18), 1.5), r"18 value\(s\) that are no probabilities: '1.5' for 'Medical material' in line 2"),
        (np.full((1, 18), np.nan), "no probabilities: 'nan'"),
    ],
)
def test_values_that_are_no_probabilities(write, values, message) -> None:
    with pytest.raises(DatasetError, match=message):
        score_probabilities(write("s.csv", probabilities(["a"], values)), ReportTable(("a",), labels=np.zeros((1, 18))))


def test_probabilities_need_columns_and_labels(write) -> None:
    truth = ReportTable(("a",), labels=np.zeros((1, 18)), source="l.csv")
    with pytest.raises(DatasetError, match="holds no probabilities"):
        score_probabilities(write("s.csv", "id,x\na,1\n"), truth)
    with pytest.raises(DatasetError, match=r"no labels for 1 of 1 volumes: \['b'\]"):
        score_probabilities(write("s.csv", probabilities(["b"], np.zeros((1, 18)))), truth)


def test_outside_scorers_say_in_one_line_what_they_lack(predictions, references) -> None:
    found = outside_scores(pair_reports(predictions, references), ["green", "nonsense"], {})
    assert found["scores"] == {}
    assert set(found["skipped"]) == {"green", "nonsense"}
    assert all("\n" not in reason for reason in found["skipped"].values())
    assert parse_models(["ratescore.entities=a", "ratescore.embeddings=b"]) == {
        "ratescore": {"entities": "a", "embeddings": "b"}
    }
    with pytest.raises(ConfigError, match=r"scorer's model 'green=x'"):
        parse_models(["green=x"])


def test_reliance_of_values_and_of_a_run(write) -> None:
    from ct_vlm.metrics import RelianceResult
    from ct_vlm.metrics.functional import Interval

    found = read_reliance(write("a.json", {"real": 0.5, "zeroed": 0.5, "other_patient": 0.1}))
    assert found.reliance["other_patient"]["score"].value == pytest.approx(0.8)
    arms = {"real": {"crg": Interval(0.5, 0.4, 0.6, 0.05)}}
    run = RelianceResult(arms, {}, {"noise": {"crg": 0.1}}, (0, 1), 0.95, 10, 4, 3, "labels (rules)")
    assert read_reliance(write("b.json", run.to_dict())) == run
    for content in ([], {"zeroed": 0.1}, {"real": "x"}, {"arms": 3}, {"arms": {"zeroed": {}}}):
        with pytest.raises(DatasetError, match=r"c\.json"):
            read_reliance(write("c.json", content))
    with pytest.raises(DatasetError, match="no visual-reliance study"):
        read_reliance(write("d.json", "{"))
