"""Fitting the whitened text space in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.errors import ConfigError
from ct_vlm.models.text_embedder import TextEmbedder
from ct_vlm.models.text_whitening import fit_text_whitening, whitening_report
from ct_vlm.modules import PCAWhitening

if TYPE_CHECKING:
    from pathlib import Path

SIZES = ("Small", "Large", "Moderate", "Tiny")
THINGS = ("effusion", "nodule", "hernia", "opacity", "cyst", "node")
SIDES = ("on the right", "on the left", "on both sides")
TEXTS = [f"{size} {thing} {side}." for size in SIZES for thing in THINGS for side in SIDES]


@pytest.fixture(scope="module")
def decoder() -> Any:
    torch.manual_seed(0)
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    return CausalLMDecoder({**config, "num_attention_heads": 2}, train_bpe_tokenizer(TEXTS, 300))


@pytest.fixture(scope="module")
def embedder(decoder: Any) -> TextEmbedder:
    return fit_text_whitening(decoder, TEXTS, layer=2, output_dim=8, batch_size=5, progress=False)


def test_embeddings_are_masked_means_of_that_layers_output(decoder: Any, embedder: TextEmbedder) -> None:
    for text in (TEXTS[0], TEXTS[-1]):
        ids = decoder.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = decoder.lm.eval()(input_ids=ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(embedder.embed([TEXTS[3], text])[1], states[2][0].mean(0), atol=1e-5, rtol=1e-4)


def test_the_stream_gives_what_all_texts_at_once_give(decoder: Any, embedder: TextEmbedder) -> None:
    want = TextEmbedder(decoder, PCAWhitening(32, 8), 2).fit(TEXTS, progress=False)
    torch.testing.assert_close(embedder(TEXTS[:9]), want(TEXTS[:9]), atol=1e-3, rtol=1e-3)
    assert int(embedder.whitening.count) == len(TEXTS)
    white = embedder(TEXTS).double()
    assert (torch.cov(white.T) - torch.eye(8)).abs().max() < 1e-3


def test_the_report_compares_before_and_after(embedder: TextEmbedder) -> None:
    found = whitening_report(embedder, TEXTS, progress=False)
    assert found.before.mean_cosine > 0.3
    assert abs(found.after.mean_cosine) < 0.05
    assert 0 < found.explained_variance < 1
    things = [text.split()[1] for text in TEXTS]
    grouped = whitening_report(embedder, TEXTS, things, progress=False)
    assert grouped.before.mean_cosine == pytest.approx(found.before.mean_cosine)
    assert 0 < grouped.before.d_prime < found.before.d_prime


def test_the_fit_is_saved_with_the_language_model(embedder: TextEmbedder, tmp_path: Path) -> None:
    again = Component.from_pretrained(embedder.save_pretrained(tmp_path))
    torch.testing.assert_close(again(TEXTS[:3]), embedder(TEXTS[:3]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("texts", "message"),
    [([*TEXTS, "  "], "Text 72 is blank"), (TEXTS[:8] * 3, "8 different texts")],
)
def test_texts_that_cannot_be_fitted_are_refused(decoder: Any, texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit_text_whitening(decoder, texts, layer=2, output_dim=8)
