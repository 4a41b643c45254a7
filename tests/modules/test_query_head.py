from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.modules import PresenceHead, QueryClassificationHead


def features(batch: int = 2) -> Features:
    return Features([torch.randn(batch, 60, 6), torch.randn(batch, 8, 8)], [(3, 4, 5), (2, 2, 2)])


def test_paper_head_has_the_published_number_of_parameters():
    with torch.device("meta"):
        head = QueryClassificationHead((32, 64, 128, 256, 320, 320), 18)
    assert sum(p.numel() for p in head.parameters()) == 520_978


def test_tokens_equal_a_float64_attention_written_out():
    head, x = QueryClassificationHead((6, 8), 3, 2).double(), features()
    memory = x.levels[1].double()
    w, b = head.attention.in_proj_weight, head.attention.in_proj_bias
    q, k, v = (t @ w[i * 8 : i * 8 + 8].T + b[i * 8 : i * 8 + 8] for i, t in enumerate((head.queries, memory, memory)))
    heads = []
    for h in range(2):
        part = slice(h * 4, h * 4 + 4)
        weights = (q[:, part] @ k[..., part].transpose(1, 2) / 2.0).softmax(-1)
        heads.append(weights @ v[..., part])
    expected = head.norm(head.attention.out_proj(torch.cat(heads, -1)))
    x.levels[1] = memory
    torch.testing.assert_close(head.tokens(x), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("classifier", ["joint", "per_query"])
@pytest.mark.parametrize("levels", [(-1,), (0, 1)])
def test_gradients_reach_every_parameter(classifier, levels):
    head = QueryClassificationHead((6, 8), 3, 2, levels=levels, classifier=classifier, position_embedding=True)
    head(features()).square().sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_without_positions_the_order_of_tokens_is_irrelevant_and_with_them_it_matters():
    x = features()
    shuffled = Features([x.levels[0], x.levels[1].flip(1)], x.grids)
    blind = QueryClassificationHead((6, 8), 3, 2)
    torch.testing.assert_close(blind(x), blind(shuffled))
    seeing = QueryClassificationHead((6, 8), 3, 2, position_embedding=True)
    assert (seeing(x) - seeing(shuffled)).abs().max() > 1e-4


def test_per_query_label_depends_on_its_own_token_alone():
    head = QueryClassificationHead((6, 8), 3, 2, classifier="per_query")
    tokens = torch.randn(1, 3, 8)
    changed = tokens.clone()
    changed[:, 1] += 1
    difference = (head._classify(tokens) - head._classify(changed)).abs()[0]
    assert difference[0] == difference[2] == 0
    assert difference[1] > 0


def test_round_trip_and_copy(tmp_path):
    head = QueryClassificationHead((6, 8), 3, 2, levels=(0, 1), embed_dim=4, classifier="per_query")
    head.save_pretrained(tmp_path)
    x = features()
    for other in (Component.from_pretrained(tmp_path), copy.deepcopy(head)):
        torch.testing.assert_close(other(x), head(x))


def test_bf16():
    x = features()
    half = Features([level.bfloat16() for level in x.levels], x.grids)
    assert QueryClassificationHead((6, 8), 3, 2, position_embedding=True).bfloat16()(half).dtype is torch.bfloat16


@pytest.mark.parametrize("kwargs", [{"num_heads": 3}, {"levels": (2,)}])
def test_settings_that_do_not_fit_are_refused(kwargs):
    with pytest.raises(ConfigError):
        QueryClassificationHead(**{"level_dims": (6, 8), "num_labels": 3, **kwargs})


def guided(**kwargs) -> QueryClassificationHead:
    presence = PresenceHead((6, 8), (0, 1), 5)
    settings = {"levels": (0, 1), "classifier": "per_query", "presence": presence, "presence_offset": 2, **kwargs}
    return QueryClassificationHead((6, 8), 3, 2, **settings)


def test_evidence_steers_attention_and_logit_of_its_own_label():
    head, x = guided(), features(1)
    weight = torch.zeros(5, 8)
    weight[3, 0] = 50.0  # class 3 = label 1 sees channel 0
    with torch.no_grad():
        head.presence.classifiers[1].weight.copy_(weight)
        head.presence.classifiers[1].bias.fill_(-2)
        x.levels[1].zero_()
        before = head(x)
        x.levels[1][0, 5, 0] = 1.0
        logits, tokens = head.logits(x)
    assert logits[0, 1] - before[0, 1] > 10
    # the attention of label 1 has collapsed onto that one cell
    memory = head.inputs[1](x.levels[1][:, 5:6])
    _, _, value = (memory @ head.attention.in_proj_weight.T + head.attention.in_proj_bias).chunk(3, -1)
    torch.testing.assert_close(tokens[:, 1:2], head.norm(head.attention.out_proj(value)), atol=1e-4, rtol=1e-4)


def test_evidence_gradients_and_round_trip(tmp_path):
    head, x = guided(), features()
    head(x).square().sum().backward()
    assert all(p.grad is not None for p in head.parameters())
    head.save_pretrained(tmp_path)
    torch.testing.assert_close(Component.from_pretrained(tmp_path)(x), head(x))


@pytest.mark.parametrize("kwargs", [{"levels": (1,)}, {"presence_offset": 3}])
def test_presence_that_does_not_fit_is_refused(kwargs):
    with pytest.raises(ConfigError, match="presence"):
        guided(**kwargs)
