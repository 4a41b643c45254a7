"""Pooled values and gradients of every backend against a one-hot einsum in float64."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.mask_pool import index_labels, index_masks, mask_pool
from ct_vlm.ops.mask_pool.torch_path import is_channel_first

GRID = (3, 5, 7)
REGIONS = 4


def make_labels(batch: int = 2) -> torch.Tensor:
    """Label maps without region 3 (index 2), so that one region is empty."""
    labels = torch.randint(0, REGIONS + 1, (batch, *GRID), generator=torch.Generator().manual_seed(3))
    return torch.where(labels == 3, 0, labels)


def make_masks(batch: int = 2, *, soft: bool) -> torch.Tensor:
    """Overlapping masks; the last one of the last sample is empty."""
    values = torch.rand(batch, REGIONS, *GRID, generator=torch.Generator().manual_seed(4))
    masks = torch.where(values > 0.6, values if soft else 1.0, 0.0)
    masks[-1, -1] = 0
    return masks if soft else masks.to(torch.uint8)


def make_features(channels: int = 6, batch: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return contiguous (channel-first) features."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, channels, *GRID, generator=generator, dtype=torch.float64).to(dtype)


def expected_mean(features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Pool by dense masks, independently of the index."""
    masks = masks.double()
    sums = torch.einsum("brdhw,bcdhw->brc", masks, features.double())
    total = masks.sum((2, 3, 4))
    return sums / torch.where(total > 0, total, 1)[..., None]


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    """Return the dense masks of a label map."""
    return torch.stack([labels == r + 1 for r in range(REGIONS)], 1)


LAYOUTS = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last_3d),
    "channel_first": lambda x: x,
    "strided": lambda x: torch.cat([x, x], 1)[:, ::2],
}


@pytest.mark.parametrize("backend", ["torch", "naive"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["labels", "masks", "soft"])
def test_value_and_gradient_match_dense_masks(backend: str, layout: str, kind: str) -> None:
    masks = one_hot(make_labels()) if kind == "labels" else make_masks(soft=kind == "soft")
    index = index_labels(make_labels(), REGIONS) if kind == "labels" else index_masks(masks)
    features = LAYOUTS[layout](make_features()).detach().requires_grad_()
    reference = features.detach().clone().requires_grad_()
    weight = torch.randn(2, REGIONS, features.shape[1], dtype=torch.float64)
    expected = expected_mean(reference, masks)
    pooled = mask_pool(features, index, backend=backend)
    # the index keeps soft weights in float32; both sides start from the same rounded masks
    torch.testing.assert_close(pooled, expected, rtol=1e-6, atol=1e-7)
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(features.grad, reference.grad, rtol=1e-6, atol=1e-7)


def test_gradcheck() -> None:
    index = index_masks(make_masks(1, soft=True))
    features = make_features(channels=2, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mask_pool(x, index, reduce="sum"), (features,))


@pytest.mark.parametrize("kind", ["labels", "masks"])
@pytest.mark.parametrize("layout", ["channels_last", "channel_first"])
def test_gradient_has_the_layout_of_the_features(kind: str, layout: str) -> None:
    index = index_labels(make_labels(), REGIONS) if kind == "labels" else index_masks(make_masks(soft=False))
    features = LAYOUTS[layout](make_features()).requires_grad_()
    (gradient,) = torch.autograd.grad(mask_pool(features, index).sum(), features)
    assert gradient.stride() == features.stride()


@pytest.mark.parametrize("cells", [1, 511, 512, 513, 1100])
def test_tiles_of_a_channel_first_map(cells: int) -> None:
    labels = torch.randint(0, 3, (2, 1, 1, cells), generator=torch.Generator().manual_seed(1))
    features = torch.randn(2, 3, 1, 1, cells, dtype=torch.float64)
    index = index_labels(labels, 2)
    torch.testing.assert_close(mask_pool(features, index), mask_pool(features, index, backend="naive"))


def test_gradient_of_many_cells_with_overlap() -> None:
    masks = torch.rand(1, 3, 1, 30, 40, generator=torch.Generator().manual_seed(2)).gt(0.5)
    features = torch.randn(1, 1200, 2, dtype=torch.float64, requires_grad=True)
    index = index_masks(masks)
    (gradient,) = torch.autograd.grad(mask_pool(features, index, reduce="sum").sum(), features)
    torch.testing.assert_close(gradient[0, :, 0], masks.double().sum(1).flatten())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype: torch.dtype) -> None:
    labels = torch.ones(1, 1, 60, 100, dtype=torch.uint8)
    features = (torch.rand(1, 6000, 3, generator=torch.Generator().manual_seed(0)) + 1).to(dtype).requires_grad_()
    pooled = mask_pool(features, index_labels(labels, 1))
    assert pooled.dtype == dtype
    # only the result is rounded: half an ulp of a number between 1 and 2; a half-precision sum would stop at 2048
    expected = features.detach().double().mean(1, keepdim=True)
    torch.testing.assert_close(pooled.double(), expected, rtol=0, atol=torch.finfo(dtype).eps / 2 + 1e-6)
    pooled.sum().backward()
    assert features.grad is not None
    assert features.grad.dtype == dtype


@pytest.mark.parametrize("backend", ["torch", "naive"])
def test_only_background(backend: str) -> None:
    index = index_labels(torch.zeros(2, *GRID, dtype=torch.uint8), REGIONS)
    features = make_features().requires_grad_()
    pooled = mask_pool(features, index, backend=backend)
    pooled.sum().backward()
    assert pooled.abs().max() == 0
    assert features.grad is not None
    assert features.grad.abs().max() == 0


def test_one_index_serves_several_maps() -> None:
    index = index_labels(make_labels(), REGIONS)
    for channels in (1, 8):
        features = make_features(channels)
        torch.testing.assert_close(mask_pool(features, index), expected_mean(features, one_hot(make_labels())))


def test_repeated_runs_are_equal_to_the_bit() -> None:
    index = index_labels(make_labels(), REGIONS)
    features = make_features(dtype=torch.float32)
    assert torch.equal(mask_pool(features, index), mask_pool(features, index))


def test_wrong_inputs_are_named() -> None:
    index = index_labels(make_labels(), REGIONS)
    with pytest.raises(ShapeError, match="do not fit an index"):
        mask_pool(torch.zeros(2, 6, 3, 5, 8), index)
    with pytest.raises(ShapeError, match="do not fit an index"):
        mask_pool(torch.zeros(1, 105, 6), index)
    with pytest.raises(ConfigError, match="'max'"):
        mask_pool(make_features(), index, reduce="max")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"index\.to"):
        mask_pool(make_features().to("meta"), index)


def test_layout_is_told_from_strides() -> None:
    x = make_features()
    assert is_channel_first(x.flatten(2).transpose(1, 2))
    last = x.contiguous(memory_format=torch.channels_last_3d)
    assert not is_channel_first(last.flatten(2).transpose(1, 2))
