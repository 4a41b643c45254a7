"""Region-by-slice counts of every backend, and the slices chosen by them."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ShapeError
from ct_vlm.ops.region_pool import counts as counts_module
from ct_vlm.ops.region_pool import mask_slice_counts, region_slice_counts, representative_slices, uniform_slices

DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def _labels(*shape: int, high: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _expected(labels: torch.Tensor, regions: int) -> torch.Tensor:
    batch, slices = labels.shape[:2]
    expected = torch.zeros(batch, regions, slices, dtype=torch.int64)
    for b in range(batch):
        for d in range(slices):
            for value in labels[b, d].flatten().tolist():
                if 1 <= value <= regions:
                    expected[b, value - 1, d] += 1
    return expected


@pytest.mark.parametrize("backend", ["torch", "naive"])
@pytest.mark.parametrize("regions", [1, 6, 30, 120, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_counts(backend: str, regions: int, dtype: torch.dtype) -> None:
    # labels beyond the regions are background too
    labels = _labels(2, 3, 5, 7, high=40, dtype=dtype)
    counts = region_slice_counts(labels, regions, backend=backend)
    assert counts.dtype == torch.int64
    assert torch.equal(counts, _expected(labels, regions))


@pytest.mark.parametrize("regions", [3, 30])
def test_negative_labels_are_background(regions: int) -> None:
    labels = _labels(1, 2, 5, 7, high=8) - 4
    assert torch.equal(region_slice_counts(labels, regions), _expected(labels, regions))


@pytest.mark.parametrize("regions", [30, 255, 256, 300])
def test_pairs_of_bytes(regions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "MANY_PIXELS", 1)
    labels = _labels(2, 3, 6, 7, high=256, dtype=torch.uint8)
    assert torch.equal(region_slice_counts(labels, regions), _expected(labels, regions))


def test_odd_number_of_pixels_is_not_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "MANY_PIXELS", 1)
    labels = _labels(1, 2, 5, 7, high=40, dtype=torch.uint8)
    assert torch.equal(region_slice_counts(labels, 39), _expected(labels, 39))


@pytest.mark.parametrize("backend", ["torch", "naive"])
def test_views_are_counted_as_they_are(backend: str) -> None:
    labels = _labels(2, 8, 6, 3, high=9).permute(0, 3, 2, 1)[..., ::2]
    assert torch.equal(region_slice_counts(labels, 8, backend=backend), _expected(labels, 8))


@pytest.mark.parametrize("regions", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_kernel(regions: int, dtype: torch.dtype, kernel_device: torch.device) -> None:
    labels = (_labels(1, 2, 5, 7, high=30) - (0 if dtype == torch.uint8 else 2)).to(dtype)
    counts = region_slice_counts(labels.to(kernel_device), regions, backend="triton")
    assert torch.equal(counts.cpu(), _expected(labels, regions))


def test_kernel_with_several_parts_a_slice(kernel_device: torch.device) -> None:
    labels = _labels(1, 1, 130, 130, high=4, dtype=torch.uint8)
    counts = region_slice_counts(labels.to(kernel_device), 3, backend="triton")
    assert torch.equal(counts.cpu(), _expected(labels, 3))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_mask_counts(dtype: torch.dtype) -> None:
    masks = (_labels(2, 3, 4, 5, 6, high=3) - 1).clamp_min(0).to(dtype)
    assert torch.equal(mask_slice_counts(masks), (masks != 0).sum((3, 4)))


def test_representative_slices() -> None:
    counts = torch.tensor([[[0, 2, 2], [9, 0, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 4], [1, 0, 0]]])
    slices, present = representative_slices(counts)
    assert slices.tolist() == [[1, 0, 2], [0, 2, 0]]
    assert present.tolist() == [[True, True, False], [False, True, True]]


def test_padding_is_never_selected() -> None:
    counts = torch.zeros(1, 4, 10, dtype=torch.int64)
    counts[0, 0, 8] = 5
    mask = torch.zeros(1, 10, dtype=torch.bool)
    mask[0, 2:6] = True
    slices, present = representative_slices(counts, mask)
    assert not present.any()
    assert slices.tolist() == [[2, 3, 4, 5]]


def test_uniform_slices_stay_inside() -> None:
    assert uniform_slices(1, 6).tolist() == [0] * 6
    assert uniform_slices(6, 6).tolist() == list(range(6))


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ShapeError, match="float32"):
        region_slice_counts(torch.zeros(1, 1, 1, 1), 2)
    with pytest.raises(ShapeError, match="masks"):
        mask_slice_counts(torch.zeros(1, 1, 1, 1))
    with pytest.raises(ShapeError, match="slice_mask"):
        representative_slices(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))
