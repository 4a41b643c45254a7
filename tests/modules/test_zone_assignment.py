"""Which slices each zone holds."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ShapeError
from ct_vlm.modules.zone_assignment import count_zones, mask_zones, zone_of_slices

Z = 32


def valid(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def slices_of(zones: object, volume: int, width: int) -> list[list[int]]:
    """Return the slices of each zone of one volume, as lists."""
    bounds, count = zones.layout.bounds, zones.layout.num_zones
    rows = zones.rows.tolist()
    return [
        [row - volume * width for row in rows[bounds[volume * count + k] : bounds[volume * count + k + 1]]]
        for k in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3, 32])
def test_zones_follow_the_papers_interval_for_every_number_of_slices(count: int) -> None:
    for n in range(1, 601):
        zones = zone_of_slices(n, count)
        for i in (0, n // 3, n // 2, n - 1):
            k = int(zones[i])
            assert k * n <= i * count < (k + 1) * n


def test_a_batch_of_all_numbers_of_slices_is_cut_as_each_alone() -> None:
    lengths = list(range(1, 601))
    found = count_zones(valid(*lengths), Z, borrow=False)
    for n in (1, 7, 31, 32, 33, 100, 599, 600):
        zones = zone_of_slices(n, Z).tolist()
        expected = [[i for i in range(n) if zones[i] == k] for k in range(Z)]
        assert slices_of(found, n - 1, 600) == expected
        assert found.present[n - 1].tolist() == [bool(own) for own in expected]
    assert found.layout.total == sum(lengths)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 31])
def test_an_empty_zone_borrows_the_slice_nearest_its_middle(n: int) -> None:
    with_own = slices_of(count_zones(valid(n, 40), Z, borrow=False), 0, 40)
    found = count_zones(valid(n, 40), Z)
    for k, (held, own) in enumerate(zip(slices_of(found, 0, 40), with_own, strict=True)):
        middle = (k + 0.5) * n / Z - 0.5  # in slices
        assert held == own or (not own and len(held) == 1 and abs(held[0] - middle) <= 0.5)
    assert slices_of(found, 1, 40) == slices_of(count_zones(valid(40), Z), 0, 40)
    assert int(found.present[0].sum()) == n


def test_a_volume_with_20_slices_has_12_empty_zones() -> None:
    assert int((~count_zones(valid(20), Z).present).sum()) == 12


def test_the_first_zone_can_be_at_the_last_slice() -> None:
    found = slices_of(count_zones(valid(5, 7), 2, reverse=True), 0, 7)
    assert found == [[4, 3, 2], [1, 0]]


def test_padding_may_lie_anywhere() -> None:
    mask = torch.tensor([[False, True, True, False, True]])
    assert slices_of(count_zones(mask, 3), 0, 5) == [[1], [2], [4]]


def test_masks_may_overlap_and_be_empty_and_leave_slices_out() -> None:
    member = torch.tensor([[[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]] * 2, dtype=torch.uint8)
    found = mask_zones(member, torch.tensor([[True] * 4, [True, False, True, True]]))
    assert slices_of(found, 0, 4) == [[0, 1], [1, 2], []]
    assert slices_of(found, 1, 4) == [[0], [2], []]
    assert found.present.tolist() == [[True, True, False]] * 2


def test_cells_of_a_slice_stay_together() -> None:
    found = count_zones(valid(3), 2).repeat(2)
    assert slices_of(found, 0, 6) == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("make", [lambda v: count_zones(v, 4), lambda v: mask_zones(torch.ones(2, 4, 3), v)])
def test_a_volume_of_padding_alone_is_refused(make: object) -> None:
    with pytest.raises(ShapeError, match="Sample 1 of the batch has no slice"):
        make(torch.tensor([[True] * 3, [False] * 3]))


def test_masks_of_other_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(B, Z, N\)"):
        mask_zones(torch.ones(1, 2, 5), torch.ones(1, 4, dtype=torch.bool))
