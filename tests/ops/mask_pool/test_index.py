"""Indices of labels, masks, pyramids and full-resolution maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError
from ct_vlm.ops.mask_pool import index_coverage, index_labels, index_masks, index_pyramid, mask_pool
from ct_vlm.ops.mask_pool.index import index_dtype
from ct_vlm.ops.mask_pool.pyramid import block_order


def _labels(*shape: int, regions: int = 5) -> torch.Tensor:
    return torch.randint(0, regions + 1, shape, generator=torch.Generator().manual_seed(0))


def _dense(labels: torch.Tensor, regions: int) -> torch.Tensor:
    return torch.stack([labels == r + 1 for r in range(regions)], 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("regions", [5, 100, 20_000])
def test_labels_of_any_integer_type(dtype: torch.dtype, regions: int) -> None:
    labels = _labels(2, 3, 4, 5).to(dtype)
    dense = index_labels(labels, regions).dense()
    assert dense.shape == (2, regions, 60)
    assert torch.equal(dense[:, :5].bool(), _dense(labels, 5).flatten(2))
    assert not dense[:, 5:].any()


def test_masks_equal_labels_without_overlap() -> None:
    labels = _labels(2, 3, 4, 5)
    from_masks, from_labels = index_masks(_dense(labels, 5)), index_labels(labels, 5)
    assert torch.equal(from_masks.cells, from_labels.cells)
    assert torch.equal(from_masks.offsets, from_labels.offsets)
    assert from_masks.region_of_cell is not None
    assert torch.equal(from_masks.region_of_cell, from_labels.region_of_cell)


def test_total_counts_cells_and_weights() -> None:
    labels = _labels(2, 3, 4, 5)
    assert torch.equal(index_labels(labels, 5).total, _dense(labels, 5).flatten(2).sum(-1).float())
    masks = torch.rand(2, 3, 2, 2, 2)
    torch.testing.assert_close(index_masks(masks).total, masks.flatten(2).sum(-1))


def test_overlap_has_no_single_region_a_cell() -> None:
    assert index_masks(torch.ones(1, 2, 1, 1, 3, dtype=torch.bool)).region_of_cell is None


@pytest.mark.parametrize("grid", [(4, 8, 8), (5, 7, 3), (1, 6, 6), (3, 1, 1)])
@pytest.mark.parametrize("strides", [[(2, 2, 2), (2, 2, 2)], [(1, 2, 2), (3, 1, 2)], []])
def test_pyramid_pools_a_level_as_if_repeated_to_the_finest(
    grid: tuple[int, int, int], strides: list[tuple[int, int, int]]
) -> None:
    labels = _labels(2, *grid)
    total = (1, 1, 1)
    for level, index in enumerate(index_pyramid(labels, 5, strides)):
        if level:
            total = tuple(a * b for a, b in zip(total, strides[level - 1], strict=True))
        features = torch.randn(2, 3, *index.grid, dtype=torch.float64)
        repeated = features
        for axis, step in enumerate(total):
            repeated = repeated.repeat_interleave(step, 2 + axis).narrow(2 + axis, 0, grid[axis])
        expected = mask_pool(repeated, index_labels(labels, 5))
        torch.testing.assert_close(mask_pool(features, index), expected)


def test_pyramid_entries_are_merged() -> None:
    levels = index_pyramid(torch.ones(1, 4, 4, 4, dtype=torch.uint8), 1, [(2, 2, 2), (2, 2, 2)])
    assert [len(index.cells) for index in levels] == [64, 8, 1]
    assert levels[1].weights is not None
    assert levels[1].weights.tolist() == [8.0] * 8


def test_block_order_is_a_permutation_with_contiguous_blocks() -> None:
    order = block_order((2, 2, 4), ((1, 1, 1), (1, 2, 2)))
    assert order.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert sorted(block_order((3, 5, 2), ((1, 1, 1), (2, 2, 2), (4, 4, 4))).tolist()) == list(range(30))


@pytest.mark.parametrize(
    ("size", "grid"), [((4, 8, 8), (2, 4, 2)), ((5, 7, 9), (2, 3, 4)), ((3, 15, 15), (3, 2, 2)), ((2, 3, 3), (4, 3, 5))]
)
def test_coverage_is_the_adaptive_average_of_the_one_hot_map(
    size: tuple[int, int, int], grid: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = _labels(2, *size).to(torch.uint8)
    expected = F.adaptive_avg_pool3d(_dense(labels, 5).double(), grid).flatten(2)
    torch.testing.assert_close(index_coverage(labels, grid, 5).dense().double(), expected, rtol=1e-6, atol=1e-7)
    # a table so small that every row of cells is a pass of its own
    monkeypatch.setattr("ct_vlm.ops.mask_pool.coverage.TABLE", 1)
    torch.testing.assert_close(index_coverage(labels, grid, 5).dense().double(), expected, rtol=1e-6, atol=1e-7)


def test_coverage_pools_features() -> None:
    labels = _labels(1, 4, 6, 6)
    index = index_coverage(labels, (2, 3, 3), 5)
    features = torch.randn(1, 4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    masks = F.adaptive_avg_pool3d(_dense(labels, 5).double(), (2, 3, 3))
    expected = torch.einsum("brdhw,bcdhw->brc", masks, features) / masks.sum((2, 3, 4))[..., None]
    pooled = mask_pool(features, index)
    torch.testing.assert_close(pooled, expected, rtol=1e-6, atol=1e-7)
    ours, reference = (
        torch.autograd.grad(x.square().sum(), features, retain_graph=True)[0] for x in (pooled, expected)
    )
    torch.testing.assert_close(ours, reference, rtol=1e-6, atol=1e-7)


def test_wrong_labels_and_masks_are_named() -> None:
    with pytest.raises(ShapeError, match="0 to 6"):
        index_labels(torch.tensor([[[[0, 6]]]]), 5)
    with pytest.raises(ShapeError, match="-1 to 1"):
        index_labels(torch.tensor([[[[-1, 1]]]]), 5)
    with pytest.raises(ShapeError, match="float32"):
        index_labels(torch.zeros(1, 1, 1, 1), 5)
    with pytest.raises(ShapeError, match="masks"):
        index_masks(torch.zeros(1, 1, 1, 1))
    with pytest.raises(ShapeError, match="grid"):
        index_coverage(torch.zeros(1, 2, 2, 2, dtype=torch.uint8), (1, 0, 1), 5)


def test_numbers_beyond_32_bits_get_64() -> None:
    assert index_dtype(2**31 - 1) == torch.int32
    assert index_dtype(2**31) == torch.int64
