"""Places of slices in mm and their embeddings."""

from __future__ import annotations

import math

import pytest
import torch

from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.modules.slice_position import sinusoidal_position, slice_positions


def test_embedding_is_the_formula() -> None:
    found = sinusoidal_position(torch.tensor([3.5, 250.0], dtype=torch.float64), 6)
    for row, place in enumerate((3.5, 250.0)):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            assert found[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert found[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_half_precision_places_are_embedded_in_float32() -> None:
    place = torch.tensor([100.0, 101.0], dtype=torch.bfloat16)
    found = sinusoidal_position(place, 8)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), sinusoidal_position(place.double(), 8), atol=2e-5, rtol=0)


def test_odd_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="even width"):
        sinusoidal_position(torch.zeros(1), 5)


@pytest.mark.parametrize(("reverse", "want"), [(False, [0, 0, 2, 4, 0]), (True, [0, 4, 2, 0, 0])])
def test_distance_is_from_the_first_slice_that_is_no_padding(reverse: bool, want: list[float]) -> None:
    features = Features([torch.zeros(1, 5, 2)], [(5, 1, 1)], slice_position_mm=torch.tensor([[7.0, 9, 11, 13, 99]]))
    valid = torch.tensor([[False, True, True, True, False]])
    assert slice_positions(features, None, valid, reverse=reverse).tolist() == [want]


def test_positions_of_the_features_go_before_spacing() -> None:
    features = Features([torch.zeros(1, 2, 2)], [(2, 1, 1)], slice_position_mm=torch.tensor([[0.0, 5.0]]))
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert slice_positions(features, {"spacing": torch.ones(1, 3)}, valid, reverse=False).tolist() == [[0, 5]]
