"""The loss around the op: its directions, its chunks, precision, and several processes."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from ct_vlm.errors import ConfigError
from ct_vlm.losses import SIGReg
from ct_vlm.ops.sigreg import random_directions, sigreg

QUANTILES = torch.tensor([NormalDist().inv_cdf((i + 0.5) / 8) for i in range(8)], dtype=torch.float64)


def closed_form(u: torch.Tensor) -> torch.Tensor:
    """The statistic of one column with the integral over the whole line."""
    pairs = torch.exp(-((u[:, None] - u) ** 2) / 2).mean()
    singles = torch.exp(-(u**2) / 4).mean()
    return len(u) * (math.sqrt(2 * math.pi) * pairs - 2 * math.sqrt(math.pi) * singles + math.sqrt(2 * math.pi / 3))


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        (torch.zeros(8), 3.216381),
        (QUANTILES, 0.010852),
        (torch.linspace(-2, 2, 8), 0.994884),
        (0.5 * QUANTILES, 1.350338),
        (2 * QUANTILES, 2.070324),
        (QUANTILES + 1, 3.632014),
        (torch.full((8,), 5.0), 31.519682),
    ],
)
def test_one_dimension_gives_the_published_values(u, expected):
    # a direction is +1 or -1 there, and the statistic the same for both
    assert float(SIGReg(3)(u[:, None].double())) == pytest.approx(expected, abs=2e-6)


def test_fine_grid_is_the_closed_form():
    x = torch.randn(20, 6, dtype=torch.float64) * 1.3 + 0.2
    seed = int(np.random.SeedSequence((2, 4)).generate_state(1)[0])
    directions = random_directions(6, 8, seed=seed).double()
    expected = torch.stack([closed_form(x @ a) for a in directions.T]).mean()
    torch.testing.assert_close(SIGReg(8, knots=200, t_max=8.0, seed=2)(x, step=4), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("chunk_size", [1, 7, 64, 100])
def test_chunks_change_neither_value_nor_gradient(chunk_size):
    x = torch.randn(2, 16, 5, dtype=torch.float64)
    whole, parts = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = SIGReg(64)(whole, step=3)
    found = SIGReg(64, chunk_size=chunk_size)(parts, step=3)
    expected.backward()
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(parts.grad, whole.grad)


def test_chunks_sum_over_ranks_once():
    calls = []
    x, directions = torch.randn(4, 3), random_directions(3, 10, seed=0)
    sigreg(x, directions, chunk_size=2, reduce=lambda t: calls.append(tuple(t.shape)) or t)
    assert calls == [(2, 1, 10, 17), ()]


def test_directions_follow_seed_and_step():
    x = torch.randn(32, 8)
    loss = SIGReg(16)
    assert torch.equal(loss(x, 5), SIGReg(16)(x, 5))
    assert loss(x, 5) != loss(x, 6)
    assert loss(x, 5) != SIGReg(16, seed=1)(x, 5)


def test_half_precision_is_computed_in_float32():
    x = torch.randn(64, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SIGReg(32)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, SIGReg(32)(x.float()))


def test_small_noise_descends_to_a_gaussian():
    x = (0.01 * torch.randn(256, 16)).requires_grad_()
    loss, optimizer = SIGReg(256), torch.optim.Adam([x], lr=0.05)
    values = []
    for step in range(60):
        optimizer.zero_grad()
        value = loss(x, step)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[0] > 100
    assert values[-1] < 1.05
    covariance = torch.cov(x.detach().T)
    assert (covariance.diagonal() - 1).abs().mean() < 0.2
    assert (covariance - covariance.diagonal().diag()).abs().mean() < 0.05


@pytest.mark.parametrize("settings", [{"num_directions": 0}, {"knots": 1}, {"t_max": 0.0}, {"chunk_size": 0}])
def test_settings_out_of_range(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SIGReg(**settings)


def test_settings_are_shown():
    assert "num_directions=8, knots=17" in repr(SIGReg(8))


def test_two_processes_equal_one(run_alone):
    assert "1 passed" in run_alone(Path(__file__).with_name("sigreg_of_two.py"))
