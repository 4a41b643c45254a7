from __future__ import annotations

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.modules import SlicePresenceHead

GRID = (3, 2, 4)


def test_logits_depend_on_the_mean_of_their_own_slice_alone():
    head = SlicePresenceHead((5,), 4, grid=(1, 2))
    tokens = torch.randn(2, 24, 5)
    before = head(Features([tokens], [GRID]))
    assert before.shape == (2, 4, 3, 1, 2)
    # another order within a slice is the same mean
    turned = tokens.unflatten(1, (3, 8)).flip(2).flatten(1, 2)
    torch.testing.assert_close(head(Features([turned], [GRID])), before)
    changed = tokens.clone()
    changed[0, 8:16] += 1
    after = head(Features([changed], [GRID]))
    assert (after != before).any(1).flatten(2).any(2).tolist() == [[False, True, False], [False] * 3]


def test_classes_start_as_rare():
    logits = SlicePresenceHead((5,), 4)(Features([torch.zeros(1, 24, 5)], [GRID]))
    assert logits.unique().tolist() == [-2.0]


def test_config_round_trip(tmp_path):
    head = SlicePresenceHead((7, 5), 4, grid=(2, 2), level=0)
    head.save_pretrained(tmp_path)
    seen = Features([torch.randn(1, 24, 7), torch.randn(1, 24, 5)], [GRID, GRID])
    torch.testing.assert_close(Component.from_pretrained(tmp_path)(seen), head(seen))


@pytest.mark.parametrize("kwargs", [{"level": 1}, {"grid": (0, 2)}])
def test_settings_that_do_not_fit_are_refused(kwargs):
    with pytest.raises(ConfigError, match="level -1"):
        SlicePresenceHead((5,), 4, **kwargs)
