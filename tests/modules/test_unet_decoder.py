from __future__ import annotations

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.encoders import ResidualUNetEncoder
from ct_vlm.errors import ConfigError
from ct_vlm.modules import UNetDecoder

DIMS, STRIDES = (4, 6, 8), (1, 2, 2)


def encoder() -> ResidualUNetEncoder:
    return ResidualUNetEncoder(features=DIMS, blocks=(1, 1, 1), strides=STRIDES)


@pytest.mark.parametrize(("fuse", "total"), [("concat", 102_361_040), ("add", 97_246_160)])
def test_paper_net_has_the_published_number_of_parameters(fuse, total):
    with torch.device("meta"):
        body = ResidualUNetEncoder()
        decoder = UNetDecoder(body.level_dims, (1, 2, 2, 2, 2, 2), 16, fuse=fuse)
    assert sum(p.numel() for m in (body, decoder) for p in m.parameters()) == total


@pytest.mark.parametrize("fuse", ["concat", "add"])
@pytest.mark.parametrize("size", [(8, 8, 8), (5, 7, 9), (2, 3, 4)])
def test_logits_have_the_sizes_of_the_levels(fuse, size):
    features = encoder()(torch.randn(1, 1, *size))
    logits = UNetDecoder(DIMS, STRIDES, 3, fuse=fuse)(features)
    assert [x.shape[2:] for x in logits] == [torch.Size(grid) for grid in features.grids[:2]]
    assert {x.shape[1] for x in logits} == {3}


def test_decoder_may_stop_at_a_coarser_level():
    features = encoder()(torch.randn(1, 1, 8, 8, 8))
    logits = UNetDecoder(DIMS, STRIDES, 3, finest_level=1)(features)
    assert [tuple(x.shape[2:]) for x in logits] == [(4, 4, 4)]


def test_gradients_reach_every_parameter_and_the_encoder():
    body, decoder = encoder(), UNetDecoder(DIMS, STRIDES, 3)
    sum(x.square().sum() for x in decoder(body(torch.randn(1, 1, 8, 8, 8)))).backward()
    for module in (body, decoder):
        assert all(p.grad is not None for p in module.parameters())


def test_config_round_trip(tmp_path):
    decoder = UNetDecoder(DIMS, STRIDES, 3, fuse="add", finest_level=1)
    decoder.save_pretrained(tmp_path)
    features = encoder()(torch.randn(1, 1, 8, 8, 8))
    torch.testing.assert_close(Component.from_pretrained(tmp_path)(features)[0], decoder(features)[0])


@pytest.mark.parametrize(
    "kwargs", [{"fuse": "mul"}, {"finest_level": 2}, {"level_dims": (4,), "strides": (1,)}, {"strides": (1, 2)}]
)
def test_settings_that_do_not_fit_are_refused(kwargs):
    with pytest.raises(ConfigError):
        UNetDecoder(**{"level_dims": DIMS, "strides": STRIDES, "num_classes": 3, **kwargs})
