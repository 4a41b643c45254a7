"""Both poolings and their gradient, every backend against pooling all slices."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.region_pool import region_pool
from ct_vlm.ops.region_pool.torch_path import averages

# token grid, slow grid: divisible, overlapping windows, one cell, as fine as the tokens, finer than the tokens
GRIDS = [((4, 6), (2, 3)), ((5, 7), (3, 2)), ((3, 3), (1, 1)), ((2, 3), (2, 3)), ((2, 3), (3, 5))]


def _inputs(grid: tuple[int, int], channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randn(2, 4, grid[0] * grid[1], channels, dtype=torch.float64)
    # a slice selected twice, and the last one
    return tokens, torch.tensor([[1, 3, 1], [0, 0, 0]])


def _reference(tokens: torch.Tensor, index: torch.Tensor, grid, slow_grid) -> tuple[torch.Tensor, torch.Tensor]:
    """Average windows by loops."""
    rows = []
    for b in range(tokens.shape[0]):
        for d in index[b].tolist():
            image = tokens[b, d].unflatten(0, grid)
            for i in range(slow_grid[0]):
                for j in range(slow_grid[1]):
                    top, bottom = i * grid[0] // slow_grid[0], -(-(i + 1) * grid[0] // slow_grid[0])
                    left, right = j * grid[1] // slow_grid[1], -(-(j + 1) * grid[1] // slow_grid[1])
                    rows.append(image[top:bottom, left:right].mean((0, 1)))
    slow = torch.stack(rows).view(*index.shape, slow_grid[0] * slow_grid[1], -1)
    return tokens.sum(2) / tokens.shape[2], slow


@pytest.mark.parametrize("backend", ["torch", "naive"])
@pytest.mark.parametrize(("grid", "slow_grid"), GRIDS)
def test_value_and_gradient(backend: str, grid: tuple[int, int], slow_grid: tuple[int, int]) -> None:
    tokens, index = _inputs(grid)
    ours, reference = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()
    pooled = region_pool(ours, index, grid=grid, slow_grid=slow_grid, backend=backend)
    expected = _reference(reference, index, grid, slow_grid)
    torch.testing.assert_close(pooled, expected)
    weights = [torch.randn_like(part) for part in expected]
    sum((part * weight).sum() for part, weight in zip(pooled, weights, strict=True)).backward()
    sum((part * weight).sum() for part, weight in zip(expected, weights, strict=True)).backward()
    torch.testing.assert_close(ours.grad, reference.grad)


def test_gradcheck() -> None:
    tokens, index = _inputs((2, 3), channels=1)
    tokens.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: region_pool(x, index, grid=(2, 3), slow_grid=(2, 2)), (tokens,))


@pytest.mark.parametrize(("grid", "slow_grid"), [((2, 3), (1, 2)), ((3, 5), (2, 2)), ((1, 2), (2, 3))])
@pytest.mark.parametrize("channels", [1, 5])
def test_kernel(grid: tuple[int, int], slow_grid: tuple[int, int], channels: int, kernel_device: torch.device) -> None:
    tokens = torch.randn(1, 3, grid[0] * grid[1], channels)
    index = torch.tensor([[1, 2, 1]])
    ours, reference = tokens.clone().to(kernel_device).requires_grad_(), tokens.double().requires_grad_()
    pooled = region_pool(ours, index.to(kernel_device), grid=grid, slow_grid=slow_grid, backend="triton")
    expected = region_pool(reference, index, grid=grid, slow_grid=slow_grid, backend="naive")
    weights = [torch.randn_like(part) for part in expected]
    for part, wanted in zip(pooled, expected, strict=True):
        torch.testing.assert_close(part.double().cpu(), wanted, rtol=1e-5, atol=1e-5)
    sum((part * weight.to(part)).sum() for part, weight in zip(pooled, weights, strict=True)).backward()
    sum((part * weight).sum() for part, weight in zip(expected, weights, strict=True)).backward()
    torch.testing.assert_close(ours.grad.double().cpu(), reference.grad, rtol=1e-5, atol=1e-5)


def test_kernel_reads_views(kernel_device: torch.device) -> None:
    # the class token is cut off without a copy
    tokens = torch.randn(1, 2, 7, 4, device=kernel_device)[:, :, 1:]
    index = torch.tensor([[1]], device=kernel_device)
    pooled = region_pool(tokens, index, grid=(2, 3), slow_grid=(1, 2), backend="triton")
    expected = region_pool(tokens, index, grid=(2, 3), slow_grid=(1, 2), backend="naive")
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(backend: str, dtype: torch.dtype, kernel_device: torch.device) -> None:
    tokens = torch.randn(1, 2, 6, 4, device=kernel_device).to(dtype).requires_grad_()
    index = torch.tensor([[1]], device=kernel_device)
    pooled = region_pool(tokens, index, grid=(2, 3), slow_grid=(1, 2), backend=backend)
    expected = region_pool(tokens.detach().double(), index, grid=(2, 3), slow_grid=(1, 2), backend="naive")
    for part, wanted in zip(pooled, expected, strict=True):
        # summed in float32 and rounded once: half an ulp
        torch.testing.assert_close(part.double(), wanted, rtol=torch.finfo(dtype).eps, atol=1e-5)
    sum(part.sum() for part in pooled).backward()
    assert tokens.grad.dtype == dtype
    assert tokens.grad.isfinite().all()


def test_averages_are_the_pooling_matrix() -> None:
    x = torch.randn(1, 1, 7, dtype=torch.float64)
    expected = torch.nn.functional.adaptive_avg_pool1d(x, 3)
    torch.testing.assert_close(averages(7, 3, x) @ x[0, 0], expected[0, 0])


def test_wrong_inputs_are_named() -> None:
    tokens, index = _inputs((2, 3))
    with pytest.raises(ShapeError, match="class tokens"):
        region_pool(tokens[:, :, :5], index, grid=(2, 3), slow_grid=(1, 1))
    with pytest.raises(ShapeError, match="slice_index"):
        region_pool(tokens, index[:1], grid=(2, 3), slow_grid=(1, 1))
    with pytest.raises(ConfigError, match="float64"):
        region_pool(tokens, index, grid=(2, 3), slow_grid=(1, 1), backend="triton")
