"""Shapes, the paper's size, and norms of the projector."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.modules import SSLProjector


def test_papers_layers():
    with torch.device("meta"):
        projector = SSLProjector()
    names = [type(layer).__name__ for layer in projector.mlp]
    assert names == ["Linear", "LayerNorm", "GELU", "Linear", "LayerNorm", "GELU", "Linear"]
    weights = [tuple(layer.weight.shape) for layer in projector.mlp if isinstance(layer, torch.nn.Linear)]
    assert weights == [(2048, 1024), (2048, 2048), (124, 2048)]


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
@pytest.mark.parametrize("leading", [(6,), (2, 3), (1, 2, 3)])
def test_leading_axes(norm, leading):
    projector = SSLProjector(5, 8, 4, norm=norm)
    x = torch.randn(*leading, 5)
    flat = projector(x.reshape(-1, 5))
    torch.testing.assert_close(projector(x), flat.view(*leading, 4))
    projector(x).square().sum().backward()
    assert all(p.grad is not None for p in projector.parameters())


def test_no_hidden_layer_is_linear():
    projector = SSLProjector(5, 8, 4, num_hidden=0)
    x = torch.randn(3, 5)
    torch.testing.assert_close(projector(x), x @ projector.mlp[0].weight.T + projector.mlp[0].bias)


def test_config_round_trip():
    projector = Component.from_config(SSLProjector(5, 8, 4, 1, norm="batch").to_config())
    assert (projector.in_dim, projector.out_dim) == (5, 4)
    assert isinstance(projector.mlp[1], torch.nn.BatchNorm1d)


@pytest.mark.parametrize("settings", [{"norm": "rms"}, {"out_dim": 0}, {"num_hidden": -1}])
def test_wrong_settings(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SSLProjector(**{"in_dim": 4, "hidden_dim": 4, **settings})
