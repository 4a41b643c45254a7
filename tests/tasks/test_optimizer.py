from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from ct_vlm.component import build_from_config
from ct_vlm.errors import ConfigError
from ct_vlm.tasks import PAPER_OPTIMIZERS, OptimizerConfig


@pytest.mark.parametrize("schedule", ["cosine", "poly", "constant"])
def test_schedule_warms_up_then_never_rises(schedule):
    config = OptimizerConfig(schedule=schedule, warmup_fraction=0.1)
    factors = [config.factor(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert min(factors) > 0


def test_poly_is_the_papers_power():
    assert OptimizerConfig(schedule="poly", warmup_fraction=0.0).factor(25, 100) == pytest.approx(0.75**0.9)


def test_parts_get_their_own_rate_and_frozen_ones_none():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "encoder_norm": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    model["head"].weight.requires_grad_(False)
    config = OptimizerConfig(lr=1.0, lr_factors={"encoder": 0.1})
    optimizer = config.build(model.named_parameters(), 10)["optimizer"]
    sizes = {group["initial_lr"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    assert sizes == {0.1: 6, 1.0: 6 + 2}


def test_paper_settings():
    assert isinstance(
        PAPER_OPTIMIZERS["segmentation"].build(nn.Linear(1, 1).named_parameters(), 10)["optimizer"], torch.optim.SGD
    )
    assert PAPER_OPTIMIZERS["classification"].lr_factors == {"encoder": 0.1}


def test_config_round_trip():
    config = OptimizerConfig("sgd", 0.01, lr_factors={"encoder": 0.5}, schedule="poly")
    assert build_from_config(config.to_config()) == config


def test_clear_errors():
    with pytest.raises(ConfigError, match="Unknown optimizer"):
        OptimizerConfig("adam")
    with pytest.raises(ConfigError, match="positive"):
        OptimizerConfig(lr=0)
    with pytest.raises(ConfigError, match="left to train"):
        OptimizerConfig().build([], 10)


def test_misspelt_prefix_is_refused_and_one_of_a_frozen_part_is_not():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(ConfigError, match=r"'encodr'.*'encoder', 'head'"):
        OptimizerConfig(lr_factors={"encodr": 0.1}).build(model.named_parameters(), 10)
    model["encoder"].requires_grad_(False)
    built = OptimizerConfig(lr_factors={"encoder": 0.1}).build(model.named_parameters(), 10)
    assert [group["initial_lr"] for group in built["optimizer"].param_groups] == [1e-3]


def test_run_without_a_last_step_needs_a_constant_schedule():
    model = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"'cosine'.*max_steps"):
        OptimizerConfig().build(model.named_parameters(), math.inf)
    built = OptimizerConfig(schedule="constant", lr=0.5).build(model.named_parameters(), math.inf)
    built["optimizer"].step()
    built["lr_scheduler"]["scheduler"].step()
    assert built["optimizer"].param_groups[0]["lr"] == 0.5
