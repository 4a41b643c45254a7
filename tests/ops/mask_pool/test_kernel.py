"""The Triton kernels against the naive path."""

from __future__ import annotations

import mmap

import pytest
import torch

from ct_vlm.errors import ConfigError
from ct_vlm.ops.mask_pool import index_labels, index_masks, mask_pool

CASES = {
    "labels": ((2, 5, 7), 3, 5, "labels"),
    "overlap": ((1, 3, 11), 2, 3, "masks"),
    "soft": ((1, 3, 5), 2, 3, "soft"),
    "one slice, one channel": ((1, 1, 9), 1, 1, "labels"),
    "many chunks": ((1, 4, 80), 2, 3, "labels"),
    "two blocks of channels": ((1, 2, 3), 1, 130, "labels"),
}


def _make(case: str, device: torch.device) -> tuple[torch.Tensor, object]:
    grid, regions, channels, kind = CASES[case]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, grid[0] * grid[1] * grid[2], channels, generator=generator).to(device)
    if kind == "labels":
        return tokens, index_labels(torch.randint(0, regions + 1, (2, *grid), generator=generator).to(device), regions)
    masks = torch.rand(2, regions, *grid, generator=generator).to(device)
    return tokens, index_masks(masks * (masks > 0.5) if kind == "soft" else masks > 0.5)


@pytest.mark.parametrize("layout", ["channels_last", "channel_first"])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient(case: str, layout: str, kernel_device: torch.device) -> None:
    tokens, index = _make(case, kernel_device)
    if layout == "channel_first":
        tokens = tokens.transpose(1, 2).contiguous().transpose(1, 2)
    ours, reference = tokens.clone().requires_grad_(), tokens.double().requires_grad_()
    weight = torch.randn(2, index.num_regions, tokens.shape[-1], device=kernel_device)
    pooled = mask_pool(ours, index, backend="triton")
    expected = mask_pool(reference, index, backend="naive")
    torch.testing.assert_close(pooled.double(), expected, rtol=1e-5, atol=1e-5)
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=1e-5, atol=1e-5)
    assert ours.grad.stride() == ours.stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, kernel_device: torch.device) -> None:
    tokens, index = _make("labels", kernel_device)
    tokens = tokens.to(dtype).requires_grad_()
    pooled = mask_pool(tokens, index, backend="triton")
    expected = mask_pool(tokens.detach().double(), index, backend="naive")
    # summed in float32, rounded once: half an ulp relative to the largest possible value
    torch.testing.assert_close(pooled.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
    pooled.sum().backward()
    assert tokens.grad.dtype == dtype
    assert tokens.grad.isfinite().all()


def test_empty_index(kernel_device: torch.device) -> None:
    index = index_labels(torch.zeros(1, 1, 2, 3, dtype=torch.uint8, device=kernel_device), 2)
    tokens = torch.ones(1, 6, 4, device=kernel_device, requires_grad=True)
    pooled = mask_pool(tokens, index, backend="triton")
    pooled.sum().backward()
    assert pooled.abs().max() == 0
    assert tokens.grad.abs().max() == 0


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_offsets_beyond_32_bits(backend: str, kernel_device: torch.device) -> None:
    # samples 2**31 + 8 elements apart; pages between them are never touched
    few, index = _make("one slice, one channel", kernel_device)
    stride = 2**31 + 8
    memory = mmap.mmap(-1, 2 * (stride + few[0].numel()))
    tokens = torch.frombuffer(memory, dtype=torch.float16).to(kernel_device).as_strided(few.shape, (stride, 1, 1))
    tokens.copy_(few)
    expected = mask_pool(few.half().double(), index, backend="naive")
    pooled = mask_pool(tokens, index, backend=backend)
    # rounded once to float16
    torch.testing.assert_close(pooled.double(), expected, rtol=2**-10, atol=1e-6)


def test_float64_is_refused(kernel_device: torch.device) -> None:
    tokens, index = _make("labels", kernel_device)
    with pytest.raises(ConfigError, match="float32"):
        mask_pool(tokens.double(), index, backend="triton")
