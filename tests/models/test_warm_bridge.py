from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.models import warm_bridge
from ct_vlm.models.warm_bridge import BRIDGE_GROUPS
from ct_vlm.modules import CrossAttentionAdapters

LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(["Effusion is seen."], 270)


@pytest.fixture
def system(tokenizer):
    def make(rank: int = 2, layers: tuple[int, ...] = (0, 1), heads: int = 2, **lora: object) -> nn.ModuleDict:
        adapters = CrossAttentionAdapters(16, list(layers), heads)
        decoder = CausalLMDecoder(LLAMA, tokenizer, lora={"r": rank, **lora}, cross_attention=adapters)
        for parameter in decoder.parameters():
            nn.init.normal_(parameter)
        return nn.ModuleDict({"visual": nn.Linear(3, 4), "decoder": decoder})

    return make


def test_language_side_crosses_and_everything_else_stays(system) -> None:
    converged, cold = system(), system()
    before = copy.deepcopy(cold.state_dict())
    report = warm_bridge(converged, cold)
    crossed = {key for group in report.moved.values() for key in group}
    for key, tensor in cold.state_dict().items():
        source = converged.state_dict()[key] if key in crossed else before[key]
        assert torch.equal(tensor, source), key
    # per layer one projector of two tensors and an adapter of seven; four projections with A and B in two layers
    assert {name: len(group) for name, group in report.moved.items()} == {"projectors": 4, "adapters": 14, "lora": 16}
    assert report.kept == len(before) - 34
    assert report.num_tensors == 34 == len(report.table().splitlines())
    assert report.num_parameters == sum(before[key].numel() for key in crossed)
    assert "projectors 4, adapters 14, lora 16" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["kept"] == report.kept


def test_other_ranks_and_other_layers_are_refused_and_nothing_moves(system) -> None:
    cold = system()
    before = copy.deepcopy(cold.state_dict())
    with pytest.raises(CheckpointError, match="differ in shape, and none was moved"):
        warm_bridge(system(rank=4), cold)
    with pytest.raises(CheckpointError, match="differ in 'projectors'"):
        warm_bridge(system(layers=(1,)), cold)
    assert all(torch.equal(tensor, before[key]) for key, tensor in cold.state_dict().items())


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ({"lora_alpha": 16}, {"lora_alpha": 128}, r"q_proj: scaling of LoRA 'default' 8\.0 -> 64\.0"),
        ({"lora_alpha": 8}, {"lora_alpha": 8, "use_rslora": True}, r"scaling of LoRA 'default' 4\.0 -> 5\.65"),
        ({"heads": 2}, {"heads": 4}, r"adapters\.1: num_heads 2 -> 4"),
    ],
)
def test_the_same_tensors_under_other_settings_are_refused_and_nothing_moves(system, source, target, message) -> None:
    cold = system(**target)
    before = copy.deepcopy(cold.state_dict())
    with pytest.raises(CheckpointError, match=message) as refused:
        warm_bridge(system(**source), cold)
    assert "lora_alpha" in str(refused.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in cold.state_dict().items())
    # what does not move may differ
    if "heads" in source:
        warm_bridge(system(**source), cold, {"lora": BRIDGE_GROUPS["lora"]})


def test_magnitudes_of_dora_cross_too(system) -> None:
    converged, cold = system(use_dora=True), system(use_dora=True)
    report = warm_bridge(converged, cold)
    magnitudes = [key for key in report.moved["lora"] if "magnitude" in key]
    assert len(magnitudes) == 8
    assert all(torch.equal(cold.state_dict()[key], converged.state_dict()[key]) for key in magnitudes)
    with pytest.raises(CheckpointError, match="differ in 'lora'"):
        warm_bridge(converged, system())


def test_a_group_that_neither_has_is_an_error_unless_left_out(tokenizer) -> None:
    plain = [CausalLMDecoder(LLAMA, tokenizer) for _ in range(2)]
    with pytest.raises(ConfigError, match="Neither model holds a tensor of 'projectors'"):
        warm_bridge(*plain)
    with pytest.raises(ConfigError, match="regular expression"):
        warm_bridge(*plain, {"norms": "("})
    report = warm_bridge(*plain, {"norms": "norm"})
    assert torch.equal(plain[0].lm.model.norm.weight, plain[1].lm.model.norm.weight)
    assert all("norm" in key for key in report.moved["norms"])
