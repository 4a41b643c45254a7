"""Zone bounds of packed volumes."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ShapeError
from ct_vlm.ops.zone_attention import ZoneLayout

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_zones", [1, 3, 32])
@pytest.mark.parametrize("length", [0, 1, 20, 31, 32, 33, 600])
def test_even_zones_follow_the_paper(length: int, num_zones: int) -> None:
    layout = ZoneLayout.even([7, length], num_zones)
    expected = [sum(row * num_zones // length == zone for row in range(length)) for zone in range(num_zones)]
    assert list(layout.lengths[num_zones:]) == expected
    assert layout.total == 7 + length
    assert layout.num_volumes == 2


def test_runs_join_neighbours_of_one_length_and_volume() -> None:
    layout = ZoneLayout((0, 2, 4, 6, 8, 9, 9), num_zones=3)
    assert [tuple(run) for run in layout.runs] == [(0, 3, 0, 2), (3, 1, 6, 2), (4, 1, 8, 1), (5, 1, 9, 0)]
    assert [run.stop for run in layout.runs] == [6, 8, 9, 9]
    assert layout.longest == 2
    assert layout.has_empty


def test_padded_places_point_at_their_rows() -> None:
    layout = ZoneLayout((0, 2, 2, 5), num_zones=3)
    assert layout.rows(CPU).tolist() == [[0, 1, 0], [0, 0, 0], [2, 3, 4]]
    assert layout.valid(CPU).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert layout.filled(CPU, 2).tolist() == [True, True, False, False, True, True]
    assert layout.offsets(CPU).tolist() == [0, 2, 2, 5]
    assert layout.offsets(CPU).dtype == torch.int32
    assert layout.offsets(CPU) is layout.offsets(CPU)


def test_tensors_first_made_in_inference_mode_serve_training() -> None:
    layout = ZoneLayout((0, 2), num_zones=1)
    with torch.inference_mode():
        layout.filled(CPU, 1)
    assert not layout.filled(CPU, 1).is_inference()


@pytest.mark.parametrize(
    ("bounds", "num_zones", "message"),
    [
        ((1, 2), 1, "start with 0"),
        ((0, 3, 2), 2, "do not fall"),
        ((), 1, "start with 0"),
        ((0, 1, 2, 3), 2, "multiple of `num_zones`=2"),
    ],
)
def test_wrong_bounds_are_refused(bounds: tuple[int, ...], num_zones: int, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        ZoneLayout(bounds, num_zones)


def test_a_layout_compares_by_its_bounds() -> None:
    first, second = ZoneLayout.even([4], 2), ZoneLayout((0, 2, 4), 2)
    first.offsets(CPU)
    assert first == second
    assert hash(first) == hash(second)
