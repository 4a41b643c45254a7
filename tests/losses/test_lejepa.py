"""The loss against its formula, and what its gradient moves."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses import LeJEPALoss, SIGReg


def test_terms_follow_the_formula():
    views = torch.randn(5, 6, 4, dtype=torch.float64)
    found = LeJEPALoss(0.1, num_global=2, sigreg={"num_directions": 16})(views, step=3)
    centres = (views[0] + views[1]) / 2
    invariance = sum(((view - centres) ** 2).sum() for view in views) / views.numel()
    gaussian = torch.stack([SIGReg(16)(view, 3) for view in views]).mean()
    torch.testing.assert_close(found.invariance, invariance.float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.sigreg, gaussian, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.loss, 0.1 * found.sigreg + 0.9 * found.invariance)


def test_gradient_passes_through_the_centre():
    # one global and one local value: d/dg of ((g - g)^2 + (g - l)^2) / 2
    views = torch.tensor([[[2.0]], [[5.0]]], requires_grad=True)
    LeJEPALoss(0.0, num_global=1, sigreg={"num_directions": 1})(views).loss.backward()
    torch.testing.assert_close(views.grad.flatten(), torch.tensor([-3.0, 3.0]))


def test_equal_views_leave_only_the_regulariser():
    views = torch.randn(1, 32, 4).expand(3, -1, -1)
    found = LeJEPALoss(0.25, sigreg={"num_directions": 8})(views)
    assert found.invariance == 0
    torch.testing.assert_close(found.loss, 0.25 * found.sigreg)


def test_invariance_alone_collapses_and_the_sum_does_not():
    spread = {}
    for weight in (0.0, 0.1):
        torch.manual_seed(0)
        x = torch.randn(64, 6)
        layer = torch.nn.Linear(6, 4)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        loss = LeJEPALoss(weight, sigreg={"num_directions": 64})
        for step in range(60):
            optimizer.zero_grad()
            views = torch.stack([layer(x + 0.5 * torch.randn_like(x)) for _ in range(2)])
            loss(views, step).loss.backward()
            optimizer.step()
        spread[weight] = float(layer(x).detach().std(0).mean())
    assert spread[0.0] < 0.1
    assert spread[0.1] > 0.5


def test_wrong_settings_and_shapes():
    with pytest.raises(ConfigError, match="weight"):
        LeJEPALoss(1.5)
    with pytest.raises(ConfigError, match="global view"):
        LeJEPALoss(num_global=0)
    with pytest.raises(ShapeError, match="2 views"):
        LeJEPALoss()(torch.zeros(1, 4, 4))
