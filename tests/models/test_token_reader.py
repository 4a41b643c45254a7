"""Studies of reliance that change visual tokens in the place of volumes."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.decoders import CausalLMDecoder, small_report_decoder, train_bpe_tokenizer
from ct_vlm.encoders import ResidualUNetEncoder
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.metrics import visual_reliance
from ct_vlm.models import TokenReader, VisionLanguageModel
from ct_vlm.models.ker_vljepa import GENERATION
from ct_vlm.modules import (
    CrossAttentionAdapters,
    MultiLayerVisualInjection,
    VisualPredictor,
    ZoneConstrainedCrossAttention,
    ZonedVisualTokens,
)
from ct_vlm.tasks import ReportLightningModule
from ct_vlm.text import RegionPrompts

TEXTS = ["Cardiomegaly is present.", "No abnormality.", "Emphysema is seen.", "A hernia."]
LLAMA = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    encoder = ResidualUNetEncoder(features=(8,), blocks=(1,), strides=(1,))
    zones = ZoneConstrainedCrossAttention(8, num_zones=3, num_heads=2, hidden_dim=8, position="none")
    adapters = CrossAttentionAdapters(16, [0, 1], 2)
    decoder = CausalLMDecoder(
        {**LLAMA, "num_attention_heads": 2}, train_bpe_tokenizer(TEXTS, 280), cross_attention=adapters
    )
    with torch.no_grad():  # so that greedy words follow the tokens
        for parameter in decoder.parameters():
            parameter.mul_(3.0)
    connector = ZonedVisualTokens(zones, VisualPredictor(8, 16))
    return ReportLightningModule(encoder, [connector], decoder, frozen=(), generation={"max_new_tokens": 7})


@pytest.fixture
def batches():
    torch.manual_seed(1)
    made = []
    for first, depth in ((0, 5), (2, 9)):  # volumes of different length
        names = [f"p{first}", f"p{first + 1}"]
        features = Features([torch.randn(2, depth, 8)], [(depth, 1, 1)])
        made.append({"features": features, "report": TEXTS[first : first + 2], "patient_id": names})
    return made


def test_it_writes_what_the_model_writes(task, batches) -> None:
    task.train()
    reader = TokenReader(task)
    tokens = reader.tokens(batches)
    assert task.training
    task.eval()
    own = {**batches[0], "prompt": ["Any emphysema?", "What is seen?"]}
    for batch, made in zip([*batches, own], [*tokens, *reader.tokens([own])], strict=True):
        assert made["features"].levels[0].shape == (2, 3, 16)
        with torch.no_grad():
            assert reader.generate_batch(made) == task.generate_batch(batch)
            assert reader.generate_batch(made, max_new_tokens=2) == task.generate_batch(batch, max_new_tokens=2)
    assert len({text for made in tokens for text in reader.generate_batch(made)}) > 1


def test_arms_change_the_tokens_themselves(task, batches, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, seen = TokenReader(task), []

    def note(prompts, visual, **_):
        seen.append(visual.tokens)
        return [""] * len(prompts)

    monkeypatch.setattr(task.decoder, "generate", note)
    tokens = reader.tokens(batches)
    visual_reliance(reader, tokens, ["zeroed", "noise", "other_patient"], seeds=(0,), n_resamples=2, progress=False)
    real = torch.cat([batch["features"].levels[0] for batch in tokens])
    shown = {name: torch.cat(seen[start : start + 6 : 3]) for start, name in enumerate(("real", "zeroed", "noise"))}
    torch.testing.assert_close(shown["real"], real)
    assert not shown["zeroed"].any()
    torch.testing.assert_close(shown["noise"].mean(1), real.mean(1), atol=1e-5, rtol=1e-4)
    assert (shown["noise"] - real).abs().max() > 0.1
    # all volumes have three tokens, so that the short ones change places with the long ones
    other = torch.cat(seen[6:])
    partner = [[bool(torch.equal(a, b)) for b in real].index(True) for a in other]
    assert sorted(partner) == [0, 1, 2, 3]
    assert all(row != column for row, column in enumerate(partner))


def test_the_papers_options_of_generation_are_taken(task, batches) -> None:
    reader = TokenReader(task)
    torch.manual_seed(0)
    assert len(reader.generate_batch(reader.tokens(batches)[0], **{**GENERATION, "max_new_tokens": 5})) == 2


def test_models_that_show_more_than_tokens_are_refused() -> None:
    encoder = ResidualUNetEncoder(features=(8,), blocks=(1,), strides=(1,))
    decoder = small_report_decoder(train_bpe_tokenizer(TEXTS, 280), embed_dim=16, num_layers=2, num_heads=2)
    injection = MultiLayerVisualInjection(encoder.level_dims, 16, num_layers=2)
    reader = TokenReader(VisionLanguageModel(encoder, [injection], decoder))
    with pytest.raises(ConfigError, match="more of a volume than visual tokens"):
        reader.tokens([{"image": torch.zeros(1, 1, 4, 4, 4), "report": ["a"]}])
    with pytest.raises(ConfigError, match="region by region"):
        TokenReader(VisionLanguageModel(encoder, [injection], decoder, region_prompts=RegionPrompts("six")))
