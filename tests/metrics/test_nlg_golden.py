"""Every value that the stated versions of outside packages gave is reproduced, by this library and by the packages."""

from __future__ import annotations

import pytest

from ct_vlm.metrics.functional import nlg_scores, nlg_statistics
from ct_vlm.metrics.functional.bleu import bleu_rows, smoothed_bleu
from ct_vlm.metrics.functional.protocols import get_protocol
from ct_vlm.metrics.functional.rouge import rouge_f1

COUNTED = ["bleu", "rouge", "cider"]
COCO = ["vlm3d", "uvlm", "ct2rep", "raw", "coco"]
ORDERS = [1, 2, 3, 4]


@pytest.fixture(params=COCO)
def protocol(request):
    if request.param == "coco":
        request.getfixturevalue("needs_java")
    return request.param


def bleu_of(scores):
    return [scores[f"bleu_{order}"] for order in ORDERS]


def test_protocols_of_pycocoevalcap(golden_nlg, protocol):
    expected = golden_nlg["pycocoevalcap"][protocol]
    pairs = golden_nlg["predictions"], golden_nlg["references"]
    scores = nlg_scores(*pairs, protocol=protocol, metrics=COUNTED)
    assert {name: scores[name] for name in expected["corpus"]} == pytest.approx(expected["corpus"], abs=1e-9)
    per_report = nlg_statistics(*pairs, protocol=protocol).per_report()
    for name, values in expected["per_report"].items():
        assert per_report[name].tolist() == pytest.approx(values, abs=1e-9), name


def test_cleaning(golden_nlg, protocol):
    found = get_protocol(protocol).clean(golden_nlg["predictions"], golden_nlg["references"])
    assert list(found) == [golden_nlg["cleaned"][protocol][name] for name in ("predictions", "references")]


@pytest.mark.parametrize("protocol", ["vlm3d", "uvlm", "ct2rep", "raw"])
def test_cleaning_probe(golden_nlg, protocol):
    probe = golden_nlg["probe"]
    expected = probe["variants"][protocol]
    found = get_protocol(protocol).clean([probe["prediction"]], [probe["reference"]])
    assert found == ([expected["hyp"]], [expected["ref"]])
    scores = nlg_scores([probe["prediction"]], [probe["reference"]], protocol, COUNTED)
    for name in ("bleu_1", "bleu_4", "rouge_l"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-9)


@pytest.mark.parametrize("smooth", [False, True])
def test_bleu_of_hugging_face(golden_nlg, smooth):
    expected = golden_nlg["hf_evaluate"][str(smooth)]
    counts = nlg_statistics(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate", ["bleu"]).bleu
    corpus = bleu_rows(counts.sum(0, keepdims=True), lambda row: smoothed_bleu(row, smooth))[0]
    assert corpus.tolist() == pytest.approx(bleu_of(expected["corpus"]), abs=1e-12)
    per_report = bleu_rows(counts, lambda row: smoothed_bleu(row, smooth))
    for column, order in zip(per_report.T, ORDERS, strict=True):
        assert column.tolist() == pytest.approx(expected["per_pair"][f"bleu_{order}"], abs=1e-12)


def test_hf_evaluate_smooths(golden_nlg):
    expected = golden_nlg["hf_evaluate"]["True"]
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate", ["bleu"])
    assert bleu_of(scores) == pytest.approx(bleu_of(expected["corpus"]), abs=1e-12)
    mean = sum(expected["per_pair"]["bleu_4"]) / 6
    assert scores["bleu_4_report_mean"] == pytest.approx(mean, abs=1e-12)
    assert abs(mean - scores["bleu_4"]) > 0.004  # one is not the other


@pytest.mark.parametrize("use_stemmer", [False, True])
def test_rouge_of_rouge_score(golden_nlg, use_stemmer):
    expected = golden_nlg["rouge_score"][str(use_stemmer)]
    found = rouge_f1(golden_nlg["predictions"], golden_nlg["references"], use_stemmer)
    for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert found[ours].tolist() == pytest.approx(expected[theirs], abs=1e-12)
    assert found["rouge_l"].mean() == pytest.approx(expected["rougeL_mean"], abs=1e-12)


@pytest.mark.parametrize("use_stemmer", [False, True])
def test_rouge_score_itself(golden_nlg, use_stemmer):
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(names, use_stemmer)
    pairs = zip(golden_nlg["references"], golden_nlg["predictions"], strict=True)
    found = [scorer.score(*pair) for pair in pairs]
    expected = golden_nlg["rouge_score"][str(use_stemmer)]
    for name in names:
        assert [scores[name].fmeasure for scores in found] == pytest.approx(expected[name], abs=1e-12)
    for part in ("precision", "recall"):
        values = [getattr(scores["rougeL"], part) for scores in found]
        assert values == pytest.approx(expected[f"rougeL_{part}"], abs=1e-12)


def test_rouge_of_the_package_called_rouge(golden_nlg):
    """Nobody's protocol, but a package of that name: it counts distinct n-grams and splits at points."""
    pairs = golden_nlg["predictions"], golden_nlg["references"]
    package = pytest.importorskip("rouge").Rouge()
    found = package.get_scores(*pairs)
    for name, expected in golden_nlg["pypi_rouge"].items():
        assert [scores[name]["f"] for scores in found] == pytest.approx(expected, abs=1e-12)
    ours = nlg_scores(*pairs, "hf_evaluate", ["rouge"])["rouge_l"]
    assert abs(ours - sum(golden_nlg["pypi_rouge"]["rouge-l"]) / 6) > 0.05  # another score under the same name


def test_hf_evaluate_does_not_stem(golden_nlg):
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate", ["rouge"])
    expected = golden_nlg["rouge_score"]["False"]
    assert scores["rouge_l"] == pytest.approx(expected["rougeL_mean"], abs=1e-12)
    assert scores["rouge_1"] == pytest.approx(sum(expected["rouge1"]) / 6, abs=1e-12)


@pytest.mark.parametrize(("package", "protocol"), [("nltk_corpus_bleu", "raw"), ("torchmetrics", "raw")])
def test_other_packages_without_smoothing(golden_nlg, package, protocol):
    key = {"nltk_corpus_bleu": "whitespace/no_smoothing", "torchmetrics": "BLEUScore/smooth=False"}[package]
    counts = nlg_statistics(golden_nlg["predictions"], golden_nlg["references"], protocol, ["bleu"]).bleu
    assert smoothed_bleu(counts.sum(0), smooth=False) == pytest.approx(bleu_of(golden_nlg[package][key]), abs=1e-7)


def test_sacrebleu(golden_nlg):
    sacrebleu = pytest.importorskip("sacrebleu")
    counts = nlg_statistics(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate", ["bleu"]).bleu
    expected = bleu_of(golden_nlg["sacrebleu"]["13a/lowercase=False/smooth=none"])
    assert smoothed_bleu(counts.sum(0), smooth=False) == pytest.approx(expected, abs=1e-12)
    for key, scores in golden_nlg["sacrebleu"].items():
        lowercase, smooth = ("True" in key), key.rpartition("=")[2]
        for order, value in zip(ORDERS, bleu_of(scores), strict=True):
            scorer = sacrebleu.BLEU(lowercase=lowercase, smooth_method=smooth, max_ngram_order=order)
            found = scorer.corpus_score(golden_nlg["predictions"], [golden_nlg["references"]]).score / 100
            assert found == pytest.approx(value, abs=1e-9), key


def test_nltk(golden_nlg):
    bleu_score = pytest.importorskip("nltk.translate.bleu_score")
    treebank = pytest.importorskip("nltk.tokenize").NLTKWordTokenizer().tokenize
    splits = {
        "whitespace": str.split,
        "whitespace_lower": lambda text: text.lower().split(),
        "nltk_treebank_nosent": treebank,
    }
    for key, scores in {**golden_nlg["nltk_corpus_bleu"], **golden_nlg["nltk_sentence_bleu"]}.items():
        split, _, method = key.partition("/")
        found = list(map(splits[split], golden_nlg["predictions"]))
        expected = list(map(splits[split], golden_nlg["references"]))
        for order in ORDERS:
            weights = (1 / order,) * order
            if method == "no_smoothing":
                value = bleu_score.corpus_bleu([[words] for words in expected], found, weights)
            else:
                smooth = getattr(bleu_score.SmoothingFunction(), method)
                value = [
                    bleu_score.sentence_bleu([r], p, weights, smooth) for p, r in zip(found, expected, strict=True)
                ]
            assert value == pytest.approx(scores[f"bleu_{order}"], abs=1e-9), key


def test_torchmetrics(golden_nlg):
    text = pytest.importorskip("torchmetrics.text")
    references = [[reference] for reference in golden_nlg["references"]]
    for key, scores in golden_nlg["torchmetrics"].items():
        if key.startswith("ROUGE"):
            continue
        name, smooth = key.partition("/")[0], key.endswith("True")
        for order in ORDERS:
            found = getattr(text, name)(n_gram=order, smooth=smooth)(golden_nlg["predictions"], references)
            assert float(found) == pytest.approx(scores[f"bleu_{order}"], abs=1e-6), key
    expected = golden_nlg["torchmetrics"]["ROUGEScore"]
    theirs = text.ROUGEScore(rouge_keys=("rouge1", "rouge2", "rougeL"))(golden_nlg["predictions"], references)
    for name, value in theirs.items():
        assert float(value) == pytest.approx(expected[name.lower()], abs=1e-6), name
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate", ["rouge"])
    for name in ("rouge1", "rouge2", "rougel"):
        assert scores[f"rouge_{name[-1]}"] == pytest.approx(expected[f"{name}_fmeasure"], abs=1e-6)


@pytest.mark.slow
def test_meteor(golden_nlg, protocol, needs_java):
    expected = golden_nlg["pycocoevalcap"][protocol]["meteor"]
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], protocol, ["meteor"])
    assert scores["meteor"] == pytest.approx(expected["corpus"], abs=1e-6)
    assert scores["meteor_settings"]["variant"] == "1.5"
    assert scores["not_in_source"] == (["meteor"] if protocol in ("uvlm", "ct2rep") else [])


def test_meteor_of_nltk(golden_nlg):
    pytest.importorskip("nltk")
    expected = golden_nlg["nltk_meteor"]["no_synonyms/nltk_treebank_nosent/alpha0.9_beta3_gamma0.5"]
    scores = nlg_scores(golden_nlg["predictions"], golden_nlg["references"], "hf_evaluate", ["meteor"])
    assert scores["meteor"] == pytest.approx(expected["mean"], abs=1e-6)  # synonyms change nothing in these pairs
    assert scores["meteor_settings"]["variant"] == "nltk"
