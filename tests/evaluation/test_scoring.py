import json

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.evaluation import (
    ReportTable,
    Settings,
    compare,
    evaluate,
    get_labeler,
    make_cases,
    pair_reports,
    rank_cases,
)
from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.functional import clinical_scores, nlg_scores
from ct_vlm.text.labels import CT_RATE_LABELS

FEW = Settings(metrics=["bleu", "rouge", "cider"], n_resamples=50)


def test_scores_are_those_of_the_functions(predictions, references) -> None:
    found = evaluate(pair_reports(predictions, references), FEW).scores
    expected = nlg_scores(list(predictions.reports), list(references.reports), metrics=["bleu", "rouge", "cider"])
    for name in ("bleu_1", "bleu_4", "rouge_l", "cider", "coverage", "missing_predictions", "protocol"):
        assert found["nlg"][name] == pytest.approx(expected[name])
    labels = RuleLabeler()([text or "" for text in predictions.reports]).astype(float)
    labels[3] = np.nan
    clinical = clinical_scores(labels, RuleLabeler()(references.reports))
    assert found["clinical"]["micro_f1"] == pytest.approx(clinical["micro_f1"])
    assert found["clinical"]["labeler"] == found["clinical"]["target_labeler"] == "rules"
    assert (found["num_reports"], found["num_patients"], found["patients_from"]) == (4, 3, "file")


def test_every_score_lies_in_its_interval_and_results_are_json(predictions, references) -> None:
    found = evaluate(pair_reports(predictions, references), FEW).scores
    json.dumps(found, allow_nan=False)
    assert {"bleu_4", "rouge_l", "cider", "micro_f1", "crg"} <= set(found["intervals"])
    for name in ("bleu_1", "rouge_l", "micro_f1"):
        interval = found["intervals"][name]
        assert interval["low"] <= interval["value"] <= interval["high"]
        assert interval["value"] == pytest.approx({**found["nlg"], **found["clinical"]}[name])


def test_order_of_the_rows_changes_nothing(predictions, references) -> None:
    order = [2, 0, 3, 1]
    shuffled = ReportTable(tuple(predictions.ids[i] for i in order), tuple(predictions.reports[i] for i in order))
    one = evaluate(pair_reports(predictions, references), FEW).scores
    two = evaluate(pair_reports(shuffled, references), FEW).scores
    for scores in (one, two):
        del scores["created"]
    assert one == two


def test_a_flipped_negation_drops_clinical_scores_and_not_word_overlap() -> None:
    truth = ReportTable(
        ("a",), ("No pleural effusion was observed. There are calcific plaques in the coronary arteries.",)
    )
    flipped = ReportTable(
        ("a",), ("Pleural effusion was observed. There are no calcific plaques in the coronary arteries.",)
    )
    found = evaluate(pair_reports(flipped, truth), Settings(metrics=["bleu", "rouge"], n_resamples=0)).scores
    assert found["clinical"]["micro_f1"] == 0
    assert found["nlg"]["bleu_1"] > 0.8
    assert found["nlg"]["rouge_l"] > 0.8


def test_given_labels_are_used_and_named(references) -> None:
    target = np.zeros((4, 18))
    target[:, 0] = 1
    predicted = target.copy()
    predicted[0, 0] = 0
    pairs = pair_reports(
        ReportTable(references.ids, labels=predicted),
        references,
        ReportTable(references.ids, labels=target, source="labels.csv"),
    )
    scores = evaluate(pairs, Settings(labeler="given", n_resamples=0)).scores
    assert scores["nlg"] is None
    assert scores["clinical"]["micro_recall"] == pytest.approx(0.75)
    assert (scores["clinical"]["labeler"], scores["clinical"]["target_labeler"]) == ("given", "given")


def test_group_by_scan(predictions, references) -> None:
    pairs = pair_reports(predictions, references)
    with pytest.raises(DatasetError, match="Scans are not known"):
        evaluate(pairs, Settings(group_by="first", n_resamples=0, metrics=["bleu"]))
    scans = ReportTable(
        references.ids, references.reports, scans=("s1", "s1", "s2", "s3"), patients=("p1", "p1", "p2", "p3")
    )
    found = evaluate(pair_reports(predictions, scans), Settings(group_by="first", metrics=["bleu"], n_resamples=20))
    assert found.scores["clinical"]["unit"] == "scan"
    assert found.scores["clinical"]["num_samples"] == 3


def test_nothing_to_score_and_missing_labels(references) -> None:
    with pytest.raises(DatasetError, match="nothing to score"):
        evaluate(
            pair_reports(ReportTable(references.ids, labels=np.ones((4, 18))), ReportTable(references.ids, None)), FEW
        )
    with pytest.raises(ConfigError, match="the references have none"):
        evaluate(
            pair_reports(ReportTable(references.ids, labels=np.ones((4, 18))), references), Settings(labeler="given")
        )


def test_labelers_by_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_labeler.py").write_text(
        "import numpy\n\ndef everything(texts):\n    return numpy.ones((len(texts), 18))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert get_labeler("given") is None
    labeler = get_labeler("my_labeler:everything")
    assert labeler.name == "my_labeler:everything"
    assert labeler(["a"]).sum() == 18
    assert get_labeler(everything).name == "everything"
    for wrong in ("ruels", "no_such_module:f", "ct_vlm:no_such_function"):
        with pytest.raises(ConfigError):
            get_labeler(wrong)


def everything(texts):
    return np.ones((len(texts), len(CT_RATE_LABELS)))


def test_cases_say_what_was_found_missed_and_invented(predictions, references) -> None:
    cases = evaluate(pair_reports(predictions, references), FEW).cases
    assert (cases[0].found, cases[0].missed, cases[0].invented) == (("Cardiomegaly",), (), ("Pleural effusion",))
    assert cases[0].f1 == pytest.approx(2 / 3)
    assert (cases[2].f1, cases[3].f1) == (1.0, 0.0)
    assert cases[3].prediction is None
    worst, best = rank_cases(cases, 2)
    assert {case.id for case in worst} == {references.ids[1], references.ids[3]}
    assert [case.id for case in best] == [references.ids[2], references.ids[0]]
    assert rank_cases(cases[:1], 5) == ([cases[0]], [])


def test_cases_without_labels(predictions, references) -> None:
    cases = make_cases(pair_reports(predictions, references), None, None)
    assert cases[0].f1 is None
    assert len(rank_cases(cases, 2)[0]) == 2


def test_comparison_of_a_system_with_itself_and_with_the_truth(predictions, references) -> None:
    pairs = pair_reports(predictions, references)
    found = evaluate(pairs, FEW)
    same = compare((pairs, found), (pairs, found), FEW, n_permutations=20)
    assert all(value["value"] in {0, None} for value in same["difference"].values())
    perfect_pairs = pair_reports(ReportTable(references.ids, references.reports), references)
    perfect = evaluate(perfect_pairs, FEW)
    better = compare((perfect_pairs, perfect), (pairs, found), FEW, n_permutations=20)
    for name in ("bleu_4", "rouge_l", "micro_f1"):
        difference = better["difference"][name]
        one, two = ({**x.scores["nlg"], **x.scores["clinical"]}[name] for x in (perfect, found))
        assert difference["value"] == pytest.approx(one - two)
        assert difference["low"] >= 0
        assert 0 < better["permutation"][name] <= 1
    json.dumps(better, allow_nan=False)


def test_systems_on_other_reports_cannot_be_compared(predictions, references) -> None:
    pairs = pair_reports(predictions, references)
    fewer = pair_reports(
        ReportTable(predictions.ids[:2], predictions.reports[:2]),
        ReportTable(references.ids[:2], references.reports[:2]),
    )
    with pytest.raises(DatasetError, match="4 and 2 reports"):
        compare((pairs, evaluate(pairs, FEW)), (fewer, evaluate(fewer, FEW)), FEW)


def test_what_scores_depend_on_is_no_score(predictions, references) -> None:
    from ct_vlm.evaluation.values import score_names

    found = evaluate(pair_reports(predictions, references), FEW).scores
    found["nlg"] |= {"meteor": 0.5, "meteor_settings": {"variant": "1.5"}, "tokenizer": "x"}
    names = score_names({"ours": found})
    assert {"bleu_4", "meteor", "micro_f1", "crg"} <= set(names)
    assert set(names).isdisjoint({"meteor_settings", "tokenizer", "protocol", "versions", "skipped", "coverage"})
