"""Scores equal those of the packages that the field runs, on random reports with edge cases."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from ct_vlm.metrics.functional import nlg_scores, nlg_statistics
from ct_vlm.metrics.functional.bleu import bleu_rows, smoothed_bleu
from ct_vlm.metrics.functional.protocols import get_protocol
from ct_vlm.metrics.functional.rouge import lcs_length, rouge_f1
from ct_vlm.metrics.functional.words import alphanumeric_words, mteval_words

ORDERS = [1, 2, 3, 4]
SEEDS = range(4)


@pytest.fixture(params=SEEDS)
def pairs(request, make_reports):
    """Predictions and references; every other prediction is a reference with some words left out."""
    predictions, references = make_reports(request.param), make_reports(request.param + 100)
    for row in range(0, 30, 2):
        predictions[row] = " ".join(references[row].split()[row % 3 :: 2 - row % 4 // 2])
    return predictions, references


def coco(texts):
    return {row: [text] for row, text in enumerate(texts)}


@pytest.mark.parametrize("protocol", ["vlm3d", "uvlm", "ct2rep", "raw"])
def test_pycocoevalcap(pairs, protocol):
    cleaned = get_protocol(protocol).clean(*pairs)
    found, expected = map(coco, cleaned)
    bleu, per_report = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4).compute_score(expected, found, verbose=0)
    _, rouges = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge().compute_score(expected, found)
    cider, ciders = pytest.importorskip("pycocoevalcap.cider.cider").Cider().compute_score(expected, found)

    scores = nlg_scores(*pairs, protocol=protocol, metrics=["bleu", "rouge", "cider"])
    assert [scores[f"bleu_{order}"] for order in ORDERS] == bleu  # the same arithmetic, to the last bit
    assert scores["bleu_mean"] == pytest.approx(sum(bleu) / 4, abs=1e-15)
    # a missing prediction has nothing in common, not even two spaces in a row
    rouges = np.where([p == "" != r for p, r in zip(*cleaned, strict=True)], 0, rouges)
    assert scores["rouge_l"] == pytest.approx(rouges.mean(), abs=1e-12)
    assert scores["cider"] == pytest.approx(cider, abs=1e-10)

    ours = nlg_statistics(*pairs, protocol=protocol).per_report()
    assert [ours[f"bleu_{order}"].tolist() for order in ORDERS] == per_report
    np.testing.assert_allclose(ours["rouge_l"], rouges, atol=1e-12)
    np.testing.assert_allclose(ours["cider"], ciders, atol=1e-10)


def test_pycocoevalcap_with_its_tokenizer(make_reports, needs_java):
    tokenizer = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    # the original drops a blank last line
    texts = [*make_reports(7, 5), "Last report (5.5 mm)."]
    expected = tokenizer.tokenize({row: [{"caption": text}] for row, text in enumerate(texts)})
    found = get_protocol("coco").clean(texts, texts)[1]
    assert found == [expected[row][0] for row in range(len(texts))]


def test_coco_scores_tokenised_text(make_reports, needs_java):
    predictions, references = make_reports(1, 5), make_reports(2, 5)
    found, expected = map(coco, get_protocol("coco").clean(predictions, references))
    cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider().compute_score(expected, found)[0]
    assert nlg_scores(predictions, references, "coco", ["cider"])["cider"] == pytest.approx(cider, abs=1e-10)


@pytest.mark.parametrize("use_stemmer", [False, True])
def test_rouge_score(pairs, use_stemmer):
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer)
    expected = [scorer.score(reference, prediction) for prediction, reference in zip(*pairs, strict=True)]
    found = rouge_f1(*pairs, use_stemmer=use_stemmer)
    for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        np.testing.assert_allclose(found[ours], [scores[theirs].fmeasure for scores in expected], atol=1e-12)
    assert max(found["rouge_2"]) > 0.5


def test_words_of_sacrebleu(make_reports):
    tokenize = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    texts = [*make_reports(3), "a..b,,c 1.,2 &quot;x&quot; &amp; 5-6 -\nx <skipped>{y}~[z] 'it's @ .5 5. ,"]
    assert [mteval_words(text) for text in texts] == [tokenize(text).split() for text in texts]


def test_words_of_rouge_score(make_reports):
    tokenize = pytest.importorskip("rouge_score.tokenize").tokenize
    texts = make_reports(4)
    assert [alphanumeric_words(text) for text in texts] == [tokenize(text, None) for text in texts]


def test_sacrebleu_without_smoothing(pairs):
    sacrebleu = pytest.importorskip("sacrebleu")
    counts = nlg_statistics(*pairs, protocol="hf_evaluate", metrics=["bleu"]).bleu.sum(0)
    for order, value in zip(ORDERS, smoothed_bleu(counts, smooth=False), strict=True):
        scorer = sacrebleu.BLEU(smooth_method="none", max_ngram_order=order)
        assert value == pytest.approx(scorer.corpus_score(pairs[0], [pairs[1]]).score / 100, abs=1e-12)


def test_smoothed_bleu_is_its_definition(pairs):
    """Hugging Face's script is no package; this is its definition, written out."""
    ours = nlg_statistics(*pairs, protocol="hf_evaluate", metrics=["bleu"])
    expected = [defined_bleu([p], [r]) for p, r in zip(*pairs, strict=True)]
    np.testing.assert_allclose(bleu_rows(ours.bleu, smoothed_bleu), expected, atol=1e-12)
    assert [ours.scores()[f"bleu_{order}"] for order in ORDERS] == pytest.approx(defined_bleu(*pairs), abs=1e-12)


def defined_bleu(predictions, references):
    found, expected = ([mteval_words(text) for text in texts] for texts in (predictions, references))
    lengths = sum(map(len, found)), sum(map(len, expected))
    if 0 in lengths:
        return [0.0] * 4
    precisions = []
    for order in ORDERS:
        matched = total = 0
        for ours, theirs in zip(found, expected, strict=True):
            a, b = (Counter(tuple(w[i : i + order]) for i in range(len(w) - order + 1)) for w in (ours, theirs))
            matched, total = matched + (a & b).total(), total + a.total()
        precisions.append((matched + 1) / (total + 1))
    brevity = min(1.0, math.exp(1 - lengths[1] / lengths[0]))
    return [brevity * math.prod(precisions[:order]) ** (1 / order) for order in ORDERS]


@pytest.mark.parametrize("seed", SEEDS)
def test_lcs_length_is_that_of_the_table(seed):
    rng = np.random.default_rng(seed)
    first, second = ([str(x) for x in rng.integers(0, 5, rng.integers(0, 90))] for _ in range(2))
    row = [0] * (len(second) + 1)
    for a in first:
        before = row[:]
        for index, b in enumerate(second):
            row[index + 1] = before[index] + 1 if a == b else max(before[index + 1], row[index])
    assert lcs_length(first, second) == lcs_length(second, first) == row[-1]


def test_lcs_length_of_nothing():
    assert lcs_length([], ["a"]) == lcs_length(["a"], []) == lcs_length([], []) == 0
