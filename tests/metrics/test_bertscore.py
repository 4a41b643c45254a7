"""BERTScore against the bert-score package on a small random encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ct_vlm.errors import CheckpointError, ConfigError, ShapeError
from ct_vlm.metrics.functional.bertscore import bert_scores

if TYPE_CHECKING:
    from pathlib import Path

bert_score = pytest.importorskip("bert_score")

WORDS = [
    *["[PAD]", "[CLS]", "[SEP]", "[UNK]", "heart", "lung", "nodule", "effusion", "size", "is", "normal", "increased"],
    *["no", "seen", "clear", "the", "a", "and", ".", ","],
]
PREDICTIONS = ["heart size is normal .", "no effusion seen", "a nodule and effusion seen in the lung .", "clear"]
REFERENCES = ["the heart is increased in size .", "no effusion , no nodule seen", "nodule", "lung is clear ."]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=12, initializer_range=0.5, **sizes)
    BertModel(config).eval().save_pretrained(folder)
    save_tokenizer(folder, 12)
    return folder


def save_tokenizer(folder: Path, limit: int | None) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    limits = {} if limit is None else {"model_max_length": limit}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **limits).save_pretrained(folder)


@pytest.mark.parametrize("layer", [1, 3])
@pytest.mark.parametrize("idf", [False, True])
def test_values_are_those_of_the_package(encoder: Path, layer: int, idf: bool) -> None:
    long = "heart lung nodule effusion size is normal increased no seen clear the a and"
    predictions, references = [*PREDICTIONS, long], [*REFERENCES, f"{long} {long}"]
    scorer = bert_score.BERTScorer(
        model_type=str(encoder), num_layers=layer, idf=idf, idf_sents=references if idf else None, nthreads=0
    )
    expected = torch.stack(scorer.score(predictions, references), dim=-1)
    ours = bert_scores(predictions, references, encoder, layer=layer, idf=idf, batch_size=2)
    torch.testing.assert_close(ours.segments, expected, atol=1e-5, rtol=0)
    assert ours.f1 == pytest.approx(expected[:, 2].mean().item(), abs=1e-5)
    assert ours.settings["layer"] == layer
    assert ours.settings["idf"] is idf


def test_batches_and_order_change_nothing(encoder: Path) -> None:
    one = bert_scores(PREDICTIONS, REFERENCES, encoder, batch_size=1).segments
    turned = bert_scores(PREDICTIONS[::-1], REFERENCES[::-1], encoder, batch_size=4).segments.flip(0)
    torch.testing.assert_close(one, turned, atol=1e-6, rtol=0)


def test_missing_reports_score_zero_and_count(encoder: Path) -> None:
    scores = bert_scores([*PREDICTIONS, None, " "], [*REFERENCES, "clear", "clear"], encoder)
    assert scores.missing_predictions == 2
    assert scores.segments[-2:].abs().sum() == 0
    assert scores.f1 == pytest.approx(bert_scores(PREDICTIONS, REFERENCES, encoder).f1 * 4 / 6, abs=1e-6)


def test_a_baseline_rescales_and_is_recorded(encoder: Path) -> None:
    raw = bert_scores(PREDICTIONS, REFERENCES, encoder)
    scaled = bert_scores(PREDICTIONS, REFERENCES, encoder, baseline=(0.2, 0.4, 0.5))
    torch.testing.assert_close(scaled.segments[:, 2], (raw.segments[:, 2] - 0.5) / 0.5)
    assert scaled.settings["rescaled"]
    assert not raw.settings["rescaled"]
    with pytest.raises(ConfigError, match="three numbers below 1"):
        bert_scores(PREDICTIONS, REFERENCES, encoder, baseline=(1.0,))


def test_a_tokenizer_without_a_limit_is_cut_at_the_model_s(encoder: Path, tmp_path: Path) -> None:
    BertModel.from_pretrained(encoder).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, None)
    long = " ".join(["nodule"] * 40)
    scores = bert_scores([long], [long], tmp_path)
    assert scores.settings["max_length"] == 12
    assert scores.f1 == pytest.approx(1.0, abs=1e-6)


def test_what_does_not_fit_is_refused(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        bert_scores(["a"], ["a"], tmp_path)
    with pytest.raises(ConfigError, match="from 0 to 3, but got 4"):
        bert_scores(["a"], ["a"], encoder, layer=4)
    with pytest.raises(ShapeError, match="1 and 2"):
        bert_scores(["a"], ["a", "b"], encoder)
