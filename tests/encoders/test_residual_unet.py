from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.encoders import ResidualUNetEncoder
from ct_vlm.errors import ConfigError, ShapeError


def small(**kwargs) -> ResidualUNetEncoder:
    settings = {"features": (4, 6, 8), "blocks": (1, 2, 1), "strides": (1, 2, 2), **kwargs}
    return ResidualUNetEncoder(2, **settings)


def test_paper_encoder_has_the_published_number_of_parameters():
    with torch.device("meta"):
        encoder = ResidualUNetEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == 90_296_576


@pytest.mark.parametrize("size", [(8, 8, 8), (7, 9, 13), (1, 5, 6), (1, 1, 1), (12, 10, 4)])
def test_levels_halve_and_round_up_for_any_size(size):
    features = small()(torch.randn(2, 2, *size))
    expected = list(size)
    for level, grid in enumerate(features.grids):
        assert grid == tuple(expected)
        assert features.levels[level].shape == (2, grid[0] * grid[1] * grid[2], (4, 6, 8)[level])
        expected = [-(-n // 2) for n in expected]
    assert all(torch.isfinite(level).all() for level in features.levels)


def test_paper_grid_sizes_follow_the_strides():
    encoder = ResidualUNetEncoder(features=(2,) * 6, blocks=(1,) * 6)
    features = encoder(torch.zeros(1, 1, 48, 64, 64))
    assert features.grids == [(48, 64, 64), (24, 32, 32), (12, 16, 16), (6, 8, 8), (3, 4, 4), (2, 2, 2)]
    assert encoder.level_strides == (1, 2, 4, 8, 16, 32)


def test_gradients_reach_every_parameter():
    encoder = small()
    sum(level.square().sum() for level in encoder(torch.randn(2, 2, 9, 8, 7)).levels).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name


def test_samples_do_not_influence_each_other():
    encoder, x = small(), torch.randn(3, 2, 8, 8, 8)
    together = encoder(x).levels[-1]
    alone = torch.cat([encoder(x[i : i + 1]).levels[-1] for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_stage_without_blocks_passes_its_input_on():
    encoder = small(blocks=(0, 1, 1))
    x = torch.randn(1, 2, 8, 8, 8)
    torch.testing.assert_close(encoder.maps(x)[0], encoder.stem(x))
    with pytest.raises(ConfigError, match="without blocks"):
        small(blocks=(1, 0, 1))


def test_config_weights_and_copies_round_trip(tmp_path):
    encoder, x = small(stem_stride=2, stem_kernel=2).eval(), torch.randn(1, 2, 8, 8, 8)
    encoder.save_pretrained(tmp_path)
    loaded = Component.from_pretrained(tmp_path)
    assert loaded.to_config() == encoder.to_config()
    for other in (loaded, copy.deepcopy(encoder)):
        torch.testing.assert_close(other(x).levels[-1], encoder(x).levels[-1])


def test_bf16_stays_close_to_fp32():
    encoder, x = small().eval(), torch.randn(1, 2, 8, 8, 8)
    exact = encoder(x).levels[0]
    rough = encoder.bfloat16()(x.bfloat16()).levels[0].float()
    # 8 bits of mantissa: 0.4 % a rounding, added up over three convolutions and norms
    assert (rough - exact).norm() / exact.norm() < 0.03


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 8, 8, 8), "B, C, D, H, W"),
        (torch.zeros(1, 1, 8, 8, 8), "2 input channel"),
        (torch.zeros(1, 2, 0, 8, 8), "at least"),
        (torch.zeros(1, 2, 8, 8, 8, dtype=torch.int16), "float"),
    ],
)
def test_wrong_volumes_are_refused_with_cause_and_cure(image, message):
    with pytest.raises(ShapeError, match=message):
        small()(image)


def test_settings_of_different_length_are_refused():
    with pytest.raises(ConfigError, match="one entry a stage"):
        ResidualUNetEncoder(features=(4, 8), blocks=(1,), strides=(1, 2))
