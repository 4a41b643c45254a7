from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.modules import QueryClassificationHead


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
    difference = (head.logits(tokens) - head.logits(changed)).abs()[0]
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
