from __future__ import annotations

import pytest
import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.errors import ConfigError
from ct_vlm.models import TextEmbedder
from ct_vlm.modules import PCAWhitening

TEXTS = ["clear lungs", "a large effusion on the left", "small nodule", "hernia", "an enlarged heart", "no finding"]
LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(TEXTS, 290)


@pytest.fixture
def embedder(tokenizer):
    def make(**options):
        torch.manual_seed(1)
        decoder = CausalLMDecoder({**LLAMA, "initializer_range": 0.3}, tokenizer, **options)
        return TextEmbedder(decoder, PCAWhitening(16, 3), layer=2)

    return make


def test_embedding_is_the_masked_mean_of_the_layer_whatever_the_batch(embedder) -> None:
    module = embedder()
    found = module.embed(TEXTS)
    for text, row in zip(TEXTS, found, strict=True):
        ids = module.decoder.tokenizer(text, return_tensors="pt")["input_ids"]
        states = module.decoder.lm(input_ids=ids, output_hidden_states=True).hidden_states[2]
        torch.testing.assert_close(row, states[0].mean(0), rtol=1e-4, atol=1e-5)


def test_fitted_embeddings_are_white_and_remembered(embedder) -> None:
    module = embedder().fit(TEXTS, batch_size=4, progress=False)
    found = module(TEXTS)
    torch.testing.assert_close(torch.cov(found.T), torch.eye(3), rtol=0, atol=1e-4)
    calls = []
    module.decoder.lm.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(module([TEXTS[2], TEXTS[2], TEXTS[0]]), found[[2, 2, 0]])
    assert calls == []
    module(["other words"])
    assert calls == [1]


def test_lora_is_off_and_stays_trainable_as_it_was(embedder) -> None:
    plain, adapted = embedder(), embedder(lora={"r": 2})
    for name, parameter in adapted.decoder.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
            parameter.requires_grad_("lora_A" in name)
    before = {name: p.requires_grad for name, p in adapted.named_parameters()}
    torch.testing.assert_close(adapted.embed(TEXTS), plain.embed(TEXTS), rtol=1e-4, atol=1e-5)
    assert {name: p.requires_grad for name, p in adapted.named_parameters()} == before
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(adapted.decoder.lm(input_ids=ids).logits, plain.decoder.lm(input_ids=ids).logits)


def test_it_is_saved_with_its_fit(embedder, tmp_path) -> None:
    module = embedder().fit(TEXTS, progress=False)
    module.save_pretrained(tmp_path)
    torch.testing.assert_close(Component.from_pretrained(tmp_path)(TEXTS), module(TEXTS), rtol=1e-4, atol=1e-4)


def test_parts_that_do_not_fit_are_refused(tokenizer) -> None:
    decoder = CausalLMDecoder(LLAMA, tokenizer)
    with pytest.raises(ConfigError, match="no layer 4"):
        TextEmbedder(decoder, PCAWhitening(16, 2), layer=4)
    with pytest.raises(ConfigError, match="width 8"):
        TextEmbedder(decoder, PCAWhitening(8, 2), layer=1)
