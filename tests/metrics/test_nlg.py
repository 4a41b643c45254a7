from __future__ import annotations

import math
import random

import pytest
import torch

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics import ReportBLEU
from ct_vlm.metrics.functional import clinical_scores, nlg_scores
from ct_vlm.metrics.functional.cleaning import PROTOCOLS
from ct_vlm.metrics.labeler import RuleLabeler

KEYS = ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]


def coco_bleu(predictions, references):
    """Return the corpus scores of the reference implementation."""
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    found = {i: [text] for i, text in enumerate(predictions)}
    return scorer.compute_score({i: [text] for i, text in enumerate(references)}, found, verbose=0)[0]


def random_reports(seed, count=30):
    rng = random.Random(seed)
    words = ["the", "heart", "is", "not", "a", "nodule", "effusion", "normal.", "5", "mm", "in", ".", ",", "lobe"]
    return [" ".join(rng.choices(words, k=rng.randint(0, 60))) for _ in range(count)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_golden_pairs(golden, protocol):
    scores = nlg_scores(golden["predictions"], golden["references"], protocol=protocol)
    assert [scores[k] for k in KEYS] == pytest.approx(golden["bleu"][protocol], abs=1e-12)
    assert scores["bleu_mean"] == pytest.approx(sum(golden["bleu"][protocol]) / 4, abs=1e-12)
    assert scores["protocol"] == protocol


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_golden_preprocessing(golden, protocol):
    probe = golden["probe"]
    scores = nlg_scores([probe["prediction"]], [probe["reference"]], protocol=protocol)
    assert [scores["bleu_1"], scores["bleu_4"]] == pytest.approx(probe["bleu_1_and_4"][protocol], abs=1e-12)


@pytest.mark.parametrize("protocol", ["vlm3d", "raw"])
def test_equals_pycocoevalcap_on_the_golden_pairs(golden, protocol):
    expected = coco_bleu(golden["predictions"], golden["references"])
    scores = nlg_scores(golden["predictions"], golden["references"], protocol=protocol)
    assert [scores[k] for k in KEYS] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocoevalcap_on_random_words(seed):
    predictions, references = random_reports(seed), random_reports(seed + 100)
    scores = nlg_scores(predictions, references, protocol="raw")
    assert [scores[k] for k in KEYS] == pytest.approx(coco_bleu(predictions, references), abs=1e-12)


def test_a_missing_prediction_counts_as_empty():
    references = ["Heart size is normal today.", "No effusion was seen today."]
    scores = nlg_scores([references[0], None], references)
    assert scores["coverage"] == 0.5
    assert scores["missing_predictions"] == 1
    assert scores["bleu_1"] == pytest.approx(math.exp(-1))  # half the words: brevity penalty exp(1 - 2)
    assert scores["bleu_1"] == nlg_scores([references[0], ""], references)["bleu_1"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cleaning_gives_no_words_to_an_empty_prediction(protocol):
    assert nlg_scores([" "], ["Effusion . "], protocol=protocol)["bleu_1"] == pytest.approx(0, abs=1e-9)


def test_a_negation_flip_drops_clinical_scores_while_bleu_stays(golden):
    prediction, reference = [golden["predictions"][1]], [golden["references"][1]]
    labeler = RuleLabeler()
    assert nlg_scores(prediction, reference)["bleu_4"] > 0.75
    assert clinical_scores(labeler(prediction), labeler(reference))["micro_f1"] == 0


def test_order_of_the_reports_changes_nothing(golden):
    pairs = list(zip(golden["predictions"], golden["references"], strict=True))
    shuffled = random.Random(0).sample(pairs, len(pairs))
    assert nlg_scores(*zip(*pairs, strict=True)) == nlg_scores(*zip(*shuffled, strict=True))


def test_no_reports():
    scores = nlg_scores([], [])
    assert (scores["num_samples"], scores["coverage"]) == (0, 0.0)


@pytest.mark.parametrize(
    ("predictions", "references", "error", "message"),
    [
        (["a"], ["a", "b"], ShapeError, "1 and 2"),
        (["a", "b"], ["a", None], DatasetError, "row 1"),
        (["a", 3], ["a", "b"], DatasetError, "row 1"),
        ("a", ["a"], DatasetError, "one string"),
    ],
)
def test_malformed_inputs_are_named(predictions, references, error, message):
    with pytest.raises(error, match=message):
        nlg_scores(predictions, references)


def test_unknown_protocols_are_named():
    with pytest.raises(ConfigError, match="vlm3d, uvlm, ct2rep, raw"):
        nlg_scores(["a"], ["a"], protocol="bleu")
    with pytest.raises(ConfigError, match="'x'"):
        ReportBLEU("x")


@pytest.mark.parametrize("protocol", ["vlm3d", "ct2rep"])
def test_the_class_equals_the_function(golden, protocol):
    predictions, references = [*golden["predictions"], None], [*golden["references"], "Effusion."]
    metric = ReportBLEU(protocol)
    for start in range(0, 7, 3):
        metric.update(predictions[start : start + 3], references[start : start + 3])
    assert metric.compute() == nlg_scores(predictions, references, protocol=protocol)
    metric.reset()
    metric.update([], [])
    assert metric.compute()["num_samples"] == 0


def test_states_of_two_processes_add_up(golden):
    halves = [ReportBLEU(), ReportBLEU()]
    for rank, metric in enumerate(halves):
        metric.update(golden["predictions"][rank::2], golden["references"][rank::2])
    halves[0].merge_state(halves[1])
    assert halves[0].compute() == nlg_scores(golden["predictions"], golden["references"])
    assert all(reduce is torch.sum or "sum" in reduce.__name__ for reduce in halves[0]._reductions.values())
