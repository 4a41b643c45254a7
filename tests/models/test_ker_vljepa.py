from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ct_vlm.component import Component
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.models import list_models, warm_bridge
from ct_vlm.models.ker_vljepa import CONFIGS, PLACEHOLDER, ker_vljepa, ker_vljepa_encoder, ker_vljepa_visual

# the package has a function of the module's name
ker_vljepa_module = sys.modules[ker_vljepa.__module__]
TEXTS = ["Pleural effusion is seen.", "No significant thoracic abnormalities identified."]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(TEXTS, 300)


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_paper_sizes_on_the_meta_device(tokenizer) -> None:
    with torch.device("meta"):
        model = ker_vljepa("paper", tokenizer=tokenizer)
        other = ker_vljepa("paper", tokenizer=tokenizer)
    assert count(model.encoder) == 303_966_208
    zones, adapters = model.connectors[0].zones, model.decoder.cross_attention
    assert zones.num_tokens == 32
    assert zones.queries.shape == (32, 1, 1024)
    assert sorted(map(int, adapters.adapters)) == [7, 14, 21]
    assert [len(list(adapter.parameters())) for adapter in adapters.adapters.values()] == [7, 7, 7]
    lora = [name for name, _ in model.decoder.named_parameters() if "lora_" in name]
    assert len(lora) == 392
    # "416" of the paper counts 3 projectors as modules, 21 adapter and 392 LoRA tensors
    report = warm_bridge(other, model)
    assert {name: len(group) for name, group in report.moved.items()} == {"projectors": 6, "adapters": 21, "lora": 392}
    embeddings = model.decoder.lm.get_input_embeddings()
    assert embeddings.weight.shape == (128257, 3072)
    assert not any(p.requires_grad for p in model.encoder.parameters())


def test_paper_visual_side_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = ker_vljepa_visual("paper")
        features = Features([torch.zeros(2, 40, 1024)], [(40, 1, 1)])
        regions = model.classifier(torch.zeros(2, 32, 1024))
        embeddings = model.jepa.per_token(model.visual.project(torch.zeros(2, 32, 1024)))
    assert features.levels[0].is_meta
    assert regions.shape == (2, 32, 18)
    assert embeddings.shape == (2, 32, 256)
    assert model.preset.size == (None, 504, 504)


def test_alpha_starts_at_the_papers_value() -> None:
    from ct_vlm.models.ker_vljepa import CONFIGS, _visual_tokens

    calibrator = _visual_tokens(CONFIGS["tiny"], 3072).calibrator
    assert calibrator.alpha.item() == 1.0
    calibrator.set_target(torch.full((5, 3072), 1.1484 / 3072**0.5))
    assert calibrator.alpha.item() == pytest.approx(0.02072, abs=1e-5)


def test_tokens_get_the_length_of_the_language_model_that_is_given(tokenizer, monkeypatch) -> None:
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    config |= {"num_attention_heads": 4, "vocab_size": 400}
    small = replace(CONFIGS["paper"], slice_dim=96, num_zones=8, num_heads=4, hidden_dim=96, embed_dim=32)
    small = replace(small, language_model=config, read_layers=(1, 2, 3), read_heads=4, lora={"r": 2})
    monkeypatch.setitem(CONFIGS, "paper", small)
    monkeypatch.setattr(ker_vljepa_module, "ker_vljepa_encoder", lambda _size: ker_vljepa_encoder("tiny"))
    given = LlamaForCausalLM(LlamaConfig(**config))
    with torch.no_grad():
        given.get_input_embeddings().weight.mul_(7.0)
    calibrator = ker_vljepa("paper", tokenizer=tokenizer, language_model=given).connectors[0].calibrator
    length = given.get_input_embeddings().weight.norm(dim=1).mean()
    assert abs(length - 1.1484) > 0.1  # else the two could not be told apart
    torch.testing.assert_close(calibrator.target_norm, length.detach())
    torch.testing.assert_close(calibrator.alpha.detach(), length.detach() / 32**0.5)
    # random weights in the place of the paper's language model, and weights that are not there, keep its length
    assert ker_vljepa("paper", tokenizer=tokenizer).connectors[0].calibrator.target_norm.item() == pytest.approx(1.1484)
    with torch.device("meta"):
        model = ker_vljepa("paper", tokenizer=tokenizer, language_model=config)
    assert model.connectors[0].calibrator.target_norm.is_meta


def test_tiny_reads_its_tokens_at_every_step_and_survives_saving(tokenizer, tmp_path) -> None:
    torch.manual_seed(0)
    model = ker_vljepa("tiny", tokenizer=tokenizer).eval()
    batch = {"image": torch.randn(2, 1, 10, 48, 48), "spacing": torch.full((2, 3), 2.0), "report": TEXTS}
    context = model.visual_context(batch)
    assert context.tokens.shape == (2, 8, 128)
    # as long as the text embeddings
    norms = model.decoder.lm.get_input_embeddings().weight.norm(dim=1).mean()
    torch.testing.assert_close(context.tokens.norm(dim=-1).mean(), norms, rtol=0.05, atol=0)
    assert PLACEHOLDER in model.decoder.tokenizer.get_vocab()
    model.save_pretrained(tmp_path)
    loaded = Component.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(batch).loss, model(batch).loss)
    other = {**batch, "image": torch.randn(2, 1, 10, 48, 48)}
    assert not torch.allclose(model(other).loss, model(batch).loss)


def test_the_same_visual_side_serves_both_halves_of_the_curriculum(tokenizer) -> None:
    from ct_vlm.models import transfer

    report = transfer(ker_vljepa_visual("tiny").visual, ker_vljepa("tiny", tokenizer=tokenizer).connectors[0])
    assert "zones.queries" in report.moved


def test_a_language_model_of_another_width_brings_it_along(tokenizer) -> None:
    config = {"model_type": "gpt2", "n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 256}
    model = ker_vljepa("tiny", tokenizer=tokenizer, language_model=config, lora=None)
    assert model.decoder.cross_attention.embed_dim == model.connectors[0].predictor.embed_dim == 32


def test_wrong_calls_are_named(tokenizer) -> None:
    with pytest.raises(ConfigError, match="tokenizer"):
        ker_vljepa("tiny")
    with pytest.raises(ConfigError, match="huge"):
        ker_vljepa("huge", tokenizer=tokenizer)
    assert "ker_vljepa" in list_models()
