from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.losses import AnchorPenalty, fisher_diagonal


def test_penalty_is_the_sum_of_squared_moves_and_pulls_back() -> None:
    layer = nn.Linear(3, 2).double()
    before = copy.deepcopy(layer.state_dict())
    penalty = AnchorPenalty(dict(layer.named_parameters()))
    assert penalty(dict(layer.named_parameters())).item() == 0.0
    with torch.no_grad():
        layer.weight += 0.5
        layer.bias -= 2.0
    value = penalty(dict(layer.named_parameters()))
    assert value.item() == pytest.approx(6 * 0.25 + 2 * 4.0, rel=1e-12)
    value.backward()
    torch.testing.assert_close(layer.bias.grad, 2 * (layer.bias.detach() - before["bias"]))


def test_fisher_weighs_and_is_the_mean_of_squared_gradients_of_single_samples() -> None:
    layer = nn.Linear(3, 1).double()
    scans = torch.randn(5, 3, dtype=torch.float64)
    named = dict(layer.named_parameters())
    fisher = fisher_diagonal(named, [lambda row=row: layer(row).square().sum() for row in scans])
    wanted = torch.stack([(2 * layer(row).detach() * row) ** 2 for row in scans]).mean(0)
    torch.testing.assert_close(fisher["weight"], wanted[None])
    penalty = AnchorPenalty(named, fisher)
    with torch.no_grad():
        layer.weight += 2.0
    assert penalty(named).item() == pytest.approx(4.0 * wanted.sum().item(), rel=1e-10)


def test_fisher_of_a_parameter_that_a_loss_does_not_use_is_zero() -> None:
    used, unused = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(2))
    fisher = fisher_diagonal({"used": used, "unused": unused}, [lambda: 2 * used.sum()])
    assert fisher["used"].tolist() == [4.0]
    assert fisher["unused"].tolist() == [0.0, 0.0]
    with pytest.raises(ConfigError, match="No sample"):
        fisher_diagonal({"used": used}, [])


def test_half_precision_weights_keep_anchors_that_can_tell_small_moves() -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    penalty = AnchorPenalty({"w": weight})
    assert penalty.anchors["w"].dtype == torch.float32
    weight.data += 0.0078125
    assert penalty({"w": weight}).item() == pytest.approx(4 * 0.0078125**2, rel=1e-6)


def test_state_goes_through_a_file_that_holds_tensors_only(tmp_path: object) -> None:
    layer = nn.Linear(2, 2)
    named = dict(layer.named_parameters())
    penalty = AnchorPenalty(named, {name: torch.full_like(tensor, 3.0) for name, tensor in named.items()})
    path = f"{tmp_path}/state.pt"
    torch.save(penalty.state_dict(), path)
    restored = AnchorPenalty.from_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        layer.weight += 1.0
    assert restored(named).item() == penalty(named).item() == pytest.approx(12.0)
    with pytest.raises(CheckpointError, match="anchors"):
        AnchorPenalty.from_state_dict({"anchors": {}})


def test_wrong_names_are_refused() -> None:
    layer = nn.Linear(2, 2)
    named = dict(layer.named_parameters())
    with pytest.raises(ConfigError, match="No parameter"):
        AnchorPenalty({})
    with pytest.raises(ConfigError, match="Fisher"):
        AnchorPenalty(named, {"weight": torch.ones(2, 2)})
    with pytest.raises(ConfigError, match="gone"):
        AnchorPenalty(named)({"weight": layer.weight})
