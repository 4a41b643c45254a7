from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from ct_vlm.errors import CheckpointError, ConfigError, DatasetError, MissingDependencyError, ShapeError
from ct_vlm.metrics import ReportBLEU, ReportNLG
from ct_vlm.metrics.functional import clinical_scores, nlg_scores, nlg_statistics
from ct_vlm.metrics.functional.protocols import METRICS, PROTOCOLS
from ct_vlm.metrics.labeler import RuleLabeler

COUNTED = ("bleu", "rouge", "cider")
WITHOUT_JAVA = [name for name in PROTOCOLS if name != "coco"]
KEYS = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "bleu_mean", "rouge_l", "cider"]


@pytest.mark.parametrize("protocol", WITHOUT_JAVA)
def test_results_say_what_they_are(golden_nlg, protocol):
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], protocol, COUNTED)
    assert [name for name in KEYS if name not in scores] == []
    assert scores["protocol"] == protocol
    assert scores["bleu_mean"] == pytest.approx(sum(scores[f"bleu_{n}"] for n in range(1, 5)) / 4, abs=1e-12)
    assert set(scores["versions"]) == {"ct_vlm", "numpy", "scipy"}
    assert ("rouge_1" in scores) == (protocol == "hf_evaluate")
    assert (scores["num_samples"], scores["coverage"], scores["missing_predictions"]) == (6, 1.0, 0)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("vlm3d", []),
        ("uvlm", ["rouge_l", "cider"]),
        ("ct2rep", ["bleu_mean", "rouge_l", "cider"]),
        ("hf_evaluate", ["bleu_mean"]),
        ("raw", ["bleu_2", "bleu_3", "bleu_4", "bleu_mean"]),
    ],
)
def test_scores_that_the_source_does_not_compute_are_marked(golden_nlg, protocol, expected):
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], protocol, COUNTED)
    assert scores["not_in_source"] == expected


@pytest.mark.parametrize("protocol", WITHOUT_JAVA)
def test_identical_reports_score_one_and_ten(golden_nlg, protocol):
    texts = golden_nlg["references"]
    scores = nlg_scores(texts, texts, protocol, COUNTED)
    assert scores.pop("cider") == pytest.approx(10)
    assert [scores[name] for name in KEYS[:-1]] == pytest.approx([1] * 6, abs=1e-9)


def test_cider_of_equal_references_is_zero():
    assert (
        nlg_scores(["No nodule is seen."] * 3, ["No nodule is seen."] * 3, metrics="cider")["cider"] == 0
    )  # no word is rare


@pytest.mark.parametrize("protocol", WITHOUT_JAVA)
def test_a_missing_prediction_counts_as_empty(protocol):
    references = ["Heart size is normal today.", "No effusion was seen today."]
    expected = nlg_scores([references[0], ""], references, protocol, COUNTED)
    for missing in (None, math.nan, " ", "\n"):
        scores = nlg_scores([references[0], missing], references, protocol, COUNTED)
        assert scores == expected
    assert (scores["coverage"], scores["missing_predictions"]) == (0.5, 1)
    assert scores["rouge_l"] == pytest.approx(0.5, abs=1e-9)
    if protocol == "vlm3d":
        assert scores["bleu_1"] == pytest.approx(math.exp(-1))  # half the words: brevity penalty exp(1 - 2)
    alone = nlg_scores(references[:1], references[:1], protocol, ["bleu"])
    assert scores["bleu_1"] < 0.5 * alone["bleu_1"]


@pytest.mark.parametrize("protocol", WITHOUT_JAVA)
def test_nothing_predicted_scores_nothing(protocol):
    scores = nlg_scores([None, " "], ["Effusion  . ", "Nodule."], protocol, COUNTED)
    assert [scores[name] for name in KEYS] == pytest.approx([0] * len(KEYS), abs=1e-9)
    assert scores["coverage"] == 0


def test_a_negation_flip_drops_clinical_scores_while_word_overlap_stays(golden_nlg):
    prediction, reference = [golden_nlg["predictions"][1]], [golden_nlg["references"][1]]
    labeler = RuleLabeler()
    scores = nlg_scores(prediction, reference, metrics=["bleu", "rouge"])
    assert scores["bleu_4"] > 0.75
    assert scores["rouge_l"] > 0.85
    assert clinical_scores(labeler(prediction), labeler(reference))["micro_f1"] == 0


@pytest.mark.parametrize("protocol", WITHOUT_JAVA)
def test_order_of_the_reports_changes_nothing(make_reports, protocol):
    pairs = list(zip(make_reports(0), make_reports(1), strict=True))
    shuffled = random.Random(0).sample(pairs, len(pairs))
    first, second = (nlg_scores(*zip(*rows, strict=True), protocol, COUNTED) for rows in (pairs, shuffled))
    assert {name: first[name] for name in KEYS} == pytest.approx({name: second[name] for name in KEYS}, abs=1e-12)


@pytest.mark.parametrize("protocol", WITHOUT_JAVA)
def test_no_reports(protocol):
    scores = nlg_scores([], [], protocol, COUNTED)
    assert [scores[name] for name in KEYS] == [0] * len(KEYS)
    assert (scores["num_samples"], scores["coverage"]) == (0, 0.0)


def test_metrics_select_families_and_single_scores(golden_nlg):
    pairs = golden_nlg["predictions"], golden_nlg["references"]
    everything = nlg_scores(*pairs, metrics=COUNTED)
    chosen = nlg_scores(*pairs, metrics=["bleu_4", "rouge_l"])
    assert [name for name in KEYS if name in chosen] == ["bleu_4", "rouge_l"]
    assert {name: chosen[name] for name in ("bleu_4", "rouge_l")} == {n: everything[n] for n in ("bleu_4", "rouge_l")}
    assert "cider" in nlg_scores(*pairs, metrics="cider")


def test_unknown_metrics_are_named(golden_nlg):
    pairs = golden_nlg["predictions"], golden_nlg["references"]
    with pytest.raises(ConfigError, match="'spice'"):
        nlg_scores(*pairs, metrics=["bleu", "spice"])
    with pytest.raises(ConfigError, match="'rouge_1'"):
        nlg_scores(*pairs, metrics=["rouge_1"])
    with pytest.raises(ConfigError, match="bertscore_model"):
        nlg_scores(*pairs, metrics=METRICS)
    with pytest.raises(ConfigError, match="'meteor'"):
        nlg_statistics(*pairs, metrics=["meteor"])


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
    for score in (nlg_scores, ReportBLEU().update, ReportNLG().update):
        with pytest.raises(error, match=message):
            score(predictions, references)


def test_unknown_protocols_are_named():
    with pytest.raises(ConfigError, match="vlm3d, uvlm, ct2rep, hf_evaluate, raw, coco"):
        nlg_scores(["a"], ["a"], protocol="bleu")
    for metric in (ReportBLEU, ReportNLG):
        with pytest.raises(ConfigError, match="'x'"):
            metric("x")


def test_the_ptb_tokenizer_names_what_is_missing(monkeypatch):
    monkeypatch.setattr("ct_vlm.metrics.functional.words.shutil.which", lambda name: None)
    with pytest.raises(ImportError, match=r"Java|pycocoevalcap"):
        nlg_scores(["a"], ["a"], "coco", ["bleu"])


def test_stemming_names_what_is_missing(monkeypatch):
    from ct_vlm.metrics.functional.rouge import rouge_f1

    monkeypatch.setattr("ct_vlm.metrics.functional.words.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="nltk"):
        rouge_f1(["a"], ["a"], use_stemmer=True)


def test_scores_are_plain_numbers(golden_nlg):
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate", COUNTED)
    assert {type(value) for name, value in scores.items() if name.startswith(COUNTED)} == {float}
    assert not any(isinstance(value, np.generic) for value in scores.values())


def test_reports_that_are_counted_already_are_not_counted_again(golden_nlg, monkeypatch):
    pairs = golden_nlg["predictions"], golden_nlg["references"]
    statistics = nlg_statistics(*pairs, protocol="ct2rep")
    expected = nlg_scores(*pairs, protocol="ct2rep", metrics=["bleu", "rouge_l"])
    monkeypatch.delattr("ct_vlm.metrics.functional.nlg.nlg_statistics")
    assert nlg_scores(*pairs, protocol="ct2rep", metrics=["bleu", "rouge_l"], statistics=statistics) == expected
    for wrong in ((*pairs, "vlm3d"), (pairs[0][:2], pairs[1][:2], "ct2rep")):
        with pytest.raises(ConfigError, match="6 reports under 'ct2rep'"):
            nlg_scores(*wrong, metrics=["bleu"], statistics=statistics)


def test_a_score_that_was_not_counted_is_not_left_out_in_silence(golden_nlg):
    pairs = golden_nlg["predictions"], golden_nlg["references"]
    statistics = nlg_statistics(*pairs, metrics=["bleu"])
    assert statistics.families == ("bleu",)
    with pytest.raises(ConfigError, match="do not hold 'rouge', 'cider'"):
        nlg_scores(*pairs, metrics=["bleu", "rouge", "cider"], statistics=statistics)


def test_what_lacks_a_resource_is_skipped_with_the_reason_or_raises_if_asked_for(monkeypatch):
    def fail(*_):
        raise MissingDependencyError("METEOR needs Java.", "Install it.")

    monkeypatch.setattr("ct_vlm.metrics.functional.meteor.meteor_scores", fail)
    scores = nlg_scores(["a"], ["a"])
    assert "meteor" not in scores
    assert scores["skipped"] == {"meteor": "METEOR needs Java. Install it."}
    with pytest.raises(MissingDependencyError, match="Java"):
        nlg_scores(["a"], ["a"], metrics=["meteor"])


@pytest.fixture
def tiny_encoder(tmp_path):
    """Folder of a small random BERT."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "heart", "nodule", "is", "seen", "normal", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path)
    return tmp_path


def test_bertscore_needs_and_names_its_model(tiny_encoder):
    pairs = ["No nodule is seen.", None], ["No nodule is seen.", "Heart is normal."]
    scores = nlg_scores(*pairs, metrics=["rouge", "bertscore"], bertscore_model=tiny_encoder)
    assert scores["bertscore_f1"] == pytest.approx(0.5, abs=1e-5)  # one equal, one missing
    assert scores["bertscore_settings"]["model"] == tiny_encoder.name
    assert "bertscore_f1" in scores["not_in_source"]
    assert {"torch", "transformers"} <= set(scores["versions"])
    with pytest.raises(CheckpointError, match=r"config\.json"):
        nlg_scores(*pairs, metrics=["bertscore_f1"], bertscore_model=tiny_encoder / "none")
