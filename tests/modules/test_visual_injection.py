from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.modules import LabelTokens, MultiLayerVisualInjection, QueryClassificationHead, VisualTokenProjector

DIMS = (4, 6, 8)


def features(batch: int = 2) -> Features:
    maps = [torch.randn(batch, c, *size) for c, size in zip(DIMS, [(7, 8, 6), (4, 4, 3), (2, 2, 2)], strict=True)]
    return Features.from_maps(maps)


def test_paper_projector_sizes():
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in VisualTokenProjector(c, 512).parameters()) for c in (128, 256, 320)]
    assert sizes == [658_176, 789_504, 855_168]


def test_deepest_level_feeds_the_first_layers_and_finest_the_last():
    connector = MultiLayerVisualInjection(DIMS, 16, 6, hidden_dim=8)
    assert connector.layer_levels == {0: 2, 1: 2, 2: 1, 3: 1, 4: 0, 5: 0}
    context = connector(features())
    assert context.tokens.shape == (2, 8, 16)
    torch.testing.assert_close(context.layer_states[0], context.tokens)


def test_paper_routing_fills_eight_layers():
    with torch.device("meta"):
        connector = MultiLayerVisualInjection((32, 64, 128, 256, 320, 320), 512, 8, skip_levels=2)
    assert connector.layer_levels == {0: 5, 1: 5, 2: 4, 3: 4, 4: 3, 5: 3, 6: 2, 7: 2}


def test_every_level_is_aligned_in_space():
    """A bump in one octant must reach that octant's token and no other, whatever the level."""
    projector = VisualTokenProjector(1, 1)
    projector.norm_in, projector.mlp, projector.norm_out = (torch.nn.Identity() for _ in range(3))
    for size in [(2, 2, 2), (4, 4, 4), (8, 6, 4)]:
        x = torch.zeros(1, 1, *size)
        x[..., : size[0] // 2, size[1] // 2 :, : size[2] // 2] = 1
        tokens = projector(x, (2, 2, 2)).flatten()
        assert tokens.argmax() == 2  # (d, h, w) = (0, 1, 0)
        torch.testing.assert_close(tokens, F.one_hot(torch.tensor(2), 8).float())


def test_coarse_levels_are_interpolated_in_place_not_padded():
    projector = VisualTokenProjector(1, 1)
    projector.norm_in, projector.mlp, projector.norm_out = (torch.nn.Identity() for _ in range(3))
    x = torch.rand(1, 1, 1, 2, 2)
    tokens = projector(x, (2, 4, 4)).view(2, 4, 4)
    expected = F.interpolate(x, size=(2, 4, 4), mode="trilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(tokens, expected)
    assert (tokens != 0).all()


@pytest.mark.parametrize("pool", ["avg", "max", "avg_max"])
def test_gradients_reach_every_parameter(pool):
    connector = MultiLayerVisualInjection(DIMS, 16, 6, hidden_dim=8, pool=pool, position_embedding=True)
    context = connector(features())
    weights = torch.randn_like(context.tokens)
    (context.tokens * weights).sum().backward(retain_graph=True)
    sum((states * weights).sum() for states in context.layer_states.values()).backward()
    assert all(p.grad is not None for p in connector.parameters())


def test_max_pooling_keeps_a_finding_that_the_mean_drowns():
    projector = VisualTokenProjector(1, 1, pool="max")
    projector.norm_in, projector.mlp, projector.norm_out = (torch.nn.Identity() for _ in range(3))
    x = torch.zeros(1, 1, 8, 8, 8)
    x[..., 1, 1, 1] = 1
    assert projector(x, (1, 1, 1)).item() == 1


def test_ablation_without_injection_keeps_the_prompt_tokens():
    context = MultiLayerVisualInjection(DIMS, 16, 2, inject=False, hidden_dim=8)(features())
    assert context.layer_states == {}
    assert context.tokens.shape == (2, 8, 16)


def test_round_trip_and_copy(tmp_path):
    connector = MultiLayerVisualInjection(DIMS, 16, 4, skip_levels=1, grid=(1, 2, 3), hidden_dim=8)
    connector.save_pretrained(tmp_path)
    x = features()
    for other in (Component.from_pretrained(tmp_path), copy.deepcopy(connector)):
        torch.testing.assert_close(other(x).layer_states[3], connector(x).layer_states[3])


@pytest.mark.parametrize("kwargs", [{"num_layers": 5}, {"source_level": 0, "skip_levels": 1}])
def test_settings_that_do_not_fit_are_refused(kwargs):
    with pytest.raises(ConfigError):
        MultiLayerVisualInjection(**{"level_dims": DIMS, "embed_dim": 8, "num_layers": 6, **kwargs})


def test_unknown_pooling_is_refused():
    with pytest.raises(ConfigError, match="pool"):
        VisualTokenProjector(4, 4, pool="median")


def test_label_tokens_carry_the_heads_verdict():
    head = QueryClassificationHead(DIMS, 3, 2, levels=(1, 2), embed_dim=8, classifier="per_query")
    connector = LabelTokens(head, 16)
    x = features()
    before = connector(x).tokens
    assert before.shape == (2, 3, 16)
    with torch.no_grad():
        head.label_bias[1] += 3
    changed = (connector(x).tokens - before).abs().amax((0, 2))
    assert changed[0] == changed[2] == 0
    assert changed[1] > 1e-3


def test_label_tokens_round_trip_and_gradients(tmp_path):
    head = QueryClassificationHead(DIMS, 3, 2, levels=(1, 2), embed_dim=8, classifier="per_query")
    connector = LabelTokens(head, 16)
    x = features()
    (connector(x).tokens * torch.randn(2, 3, 16)).sum().backward()
    assert all(p.grad is not None for p in connector.parameters())
    connector.save_pretrained(tmp_path)
    torch.testing.assert_close(Component.from_pretrained(tmp_path)(x).tokens, connector(x).tokens)


@pytest.mark.parametrize("pool", ["avg", "max", "avg_max"])
def test_bf16_keeps_its_dtype(pool):
    x = features()
    half = Features([level.bfloat16() for level in x.levels], x.grids)
    context = MultiLayerVisualInjection(DIMS, 16, 6, hidden_dim=8, pool=pool).bfloat16()(half)
    assert {context.tokens.dtype, *(s.dtype for s in context.layer_states.values())} == {torch.bfloat16}
    assert torch.isfinite(context.tokens).all()
