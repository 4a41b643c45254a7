from __future__ import annotations

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.modules import PatchSegmentationDecoder

GRID = (3, 2, 4)


def features(dim: int = 5) -> Features:
    return Features([torch.randn(2, 24, 7), torch.randn(2, 24, dim)], [GRID, GRID])


@pytest.mark.parametrize("block", [1, 2, 3])
def test_every_token_decides_its_own_block_alone(block):
    decoder = PatchSegmentationDecoder((7, 5), 4, block=block)
    before = features()
    changed = Features([before.levels[0], before.levels[1].clone()], before.grids)
    slice_, row, column = 1, 0, 3
    changed.levels[1][0, (slice_ * GRID[1] + row) * GRID[2] + column] += 1
    (a,), (b,) = decoder(before), decoder(changed)
    assert a.shape == (2, 4, GRID[0], GRID[1] * block, GRID[2] * block)
    places = (a != b).any(1).nonzero()
    assert {tuple(place) for place in places.tolist()} == {
        (0, slice_, row * block + i, column * block + j) for i in range(block) for j in range(block)
    }


def test_a_block_keeps_the_order_of_rows_and_columns():
    decoder = PatchSegmentationDecoder((1,), 2, block=2)
    with torch.no_grad():
        decoder.classify.weight.zero_()
        decoder.classify.bias.copy_(torch.arange(8.0))
    logits = decoder(Features([torch.zeros(1, 1, 1)], [(1, 1, 1)]))[0]
    assert logits[0, :, 0].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_config_round_trip(tmp_path):
    decoder = PatchSegmentationDecoder((7, 5), 4, block=2, level=0)
    decoder.save_pretrained(tmp_path)
    seen = features()
    torch.testing.assert_close(Component.from_pretrained(tmp_path)(seen)[0], decoder(seen)[0])


@pytest.mark.parametrize("kwargs", [{"level": 2}, {"level": -3}, {"block": 0}])
def test_settings_that_do_not_fit_are_refused(kwargs):
    with pytest.raises(ConfigError, match="patch size"):
        PatchSegmentationDecoder((7, 5), 4, **kwargs)
