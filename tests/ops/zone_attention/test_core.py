"""The attention core: every backend against the reference in double precision."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.dispatch import choose
from ct_vlm.ops.zone_attention import BACKENDS, ZoneLayout, zone_attention
from ct_vlm.ops.zone_attention.sdpa import _padded

# one zone without slices, one with a single slice, one of several tiles
LAYOUT = ZoneLayout((0, 3, 3, 70, 71), num_zones=2)
LAYOUTS = {
    "ragged": LAYOUT,
    "one slice": ZoneLayout((0, 1, 1), num_zones=2),
    "no slices at all": ZoneLayout((0, 0, 0), num_zones=2),
    "equal": ZoneLayout.even([6, 6], num_zones=3),
}
# fp32: sums of up to 70 products of numbers near 1, each rounded to 24 bits
# fp16 and bf16: inputs are exact, weights and output are rounded to 11 and 8 bits; gradients add three roundings
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def inputs(
    layout: ZoneLayout, *, queries: int = 2, heads: int = 1, dim: int = 8, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [
        (layout.num_volumes, layout.num_zones, queries, heads, dim),
        (layout.total, heads, dim),
        (layout.total, heads, dim),
    ]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def run(tensors: list[torch.Tensor], layout: ZoneLayout, backend: str, device: torch.device | str = "cpu"):
    """Return the output and all gradients, for a gradient of the output that differs everywhere."""
    leaves = [tensor.detach().to(device).requires_grad_() for tensor in tensors]
    out = zone_attention(*leaves, layout, backend=backend)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    grads = torch.autograd.grad(out, leaves, weight.to(out))
    return [tensor.detach().cpu().double() for tensor in (out, *grads)]


def device_of(request: pytest.FixtureRequest, backend: str) -> torch.device | str:
    """Only kernels need a device on which they can run."""
    return request.getfixturevalue("kernel_device") if backend == "triton" else "cpu"


def assert_equal(found: list[torch.Tensor], expected: list[torch.Tensor], dtype: torch.dtype) -> None:
    for ours, reference in zip(found, expected, strict=True):
        # relative to the largest element: small ones are differences of large ones
        assert ours.isfinite().all()
        largest = reference.abs().max().clamp(min=1) if reference.numel() else 1
        torch.testing.assert_close(ours, reference, rtol=0, atol=float(TOLERANCE[dtype] * largest))


def test_the_reference_is_softmax_over_the_zone() -> None:
    query, key, value = inputs(LAYOUT)
    out = zone_attention(query, key, value, LAYOUT, backend="naive", scale=0.3)
    for zone, (start, stop) in enumerate(zip(LAYOUT.bounds, LAYOUT.bounds[1:], strict=False)):
        rows = query.flatten(0, 1)[zone, :, 0]
        expected = torch.softmax(rows @ key[start:stop, 0].T * 0.3, -1) @ value[start:stop, 0]
        torch.testing.assert_close(out.flatten(0, 1)[zone, :, 0], expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_sdpa_equals_the_reference(name: str) -> None:
    tensors = inputs(LAYOUTS[name], heads=2)
    assert_equal(run(tensors, LAYOUTS[name], "sdpa"), run(tensors, LAYOUTS[name], "naive"), torch.float64)


def test_padded_sdpa_equals_the_reference() -> None:
    query, key, value = (tensor.requires_grad_() for tensor in inputs(LAYOUT, heads=2))
    out = _padded(query.flatten(0, 1), key, value, LAYOUT, 8**-0.5).view(query.shape)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    grads = torch.autograd.grad(out, (query, key, value), weight)
    expected = run([query, key, value], LAYOUT, "naive")
    assert_equal([out.detach(), *grads], expected, torch.float64)


def test_gradients_of_the_reference_are_those_of_finite_differences() -> None:
    layout = ZoneLayout((0, 3, 3), num_zones=2)
    leaves = [tensor.requires_grad_() for tensor in inputs(layout, dim=4)]
    assert torch.autograd.gradcheck(lambda *args: zone_attention(*args, layout, backend="naive"), leaves)


@pytest.mark.parametrize("dim", [8, 32, 64, 128])
def test_the_kernel_equals_the_reference(kernel_device: torch.device, dim: int) -> None:
    tensors = inputs(LAYOUT, dim=dim, dtype=torch.float32)
    expected = run([tensor.double() for tensor in tensors], LAYOUT, "naive")
    assert_equal(run(tensors, LAYOUT, "triton", kernel_device), expected, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_kernel_in_half_precision(kernel_device: torch.device, dtype: torch.dtype) -> None:
    tensors = inputs(LAYOUT, dim=16, dtype=dtype)
    expected = run([tensor.double() for tensor in tensors], LAYOUT, "naive")
    assert_equal(run(tensors, LAYOUT, "triton", kernel_device), expected, dtype)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_kernel_on_every_layout(kernel_device: torch.device, name: str) -> None:
    tensors = inputs(LAYOUTS[name], dim=5, dtype=torch.float32)
    expected = run([tensor.double() for tensor in tensors], LAYOUTS[name], "naive")
    assert_equal(run(tensors, LAYOUTS[name], "triton", kernel_device), expected, torch.float32)


def test_the_kernel_with_more_queries_than_a_tile(kernel_device: torch.device) -> None:
    layout = ZoneLayout((0, 9), num_zones=1)
    tensors = inputs(layout, queries=67, heads=2, dim=8, dtype=torch.float32)
    expected = run([tensor.double() for tensor in tensors], layout, "naive")
    assert_equal(run(tensors, layout, "triton", kernel_device), expected, torch.float32)


@pytest.mark.parametrize("backend", ["sdpa", "naive", "triton"])
def test_views_and_shared_queries_are_read_as_they_are(request: pytest.FixtureRequest, backend: str) -> None:
    device = device_of(request, backend)
    layout = ZoneLayout.even([4, 5], num_zones=2)
    generator = torch.Generator().manual_seed(3)
    both = torch.randn(9, 2, 2, 8, generator=generator).to(device)
    key, value = both.unbind(1)
    swapped = torch.randn(2, 2, 1, 8, generator=generator).to(device).transpose(1, 2)
    query = swapped.expand(2, -1, -1, -1, -1)
    assert not key.is_contiguous()
    out = zone_attention(query, key, value, layout, backend=backend)
    expected = zone_attention(
        query.double().contiguous(), key.double().contiguous(), value.double().contiguous(), layout, backend="naive"
    )
    assert_equal([out.cpu().double()], [expected.cpu()], torch.float32)
    columns = key.transpose(1, 2).contiguous().transpose(1, 2)
    assert columns.stride(-1) != 1
    out = zone_attention(query, columns, value, layout, backend=backend)
    assert_equal([out.cpu().double()], [expected.cpu()], torch.float32)


@pytest.mark.parametrize("backend", ["sdpa", "naive", "triton"])
def test_large_scores_do_not_overflow(request: pytest.FixtureRequest, backend: str) -> None:
    layout = ZoneLayout((0, 3, 5), num_zones=2)
    tensors = [tensor * 60 for tensor in inputs(layout, dim=16, dtype=torch.float32)]
    expected = run([tensor.double() for tensor in tensors], layout, "naive")
    found = run(tensors, layout, backend, device_of(request, backend))
    # scores near 1e4 have an error of 1e-3 in fp32, and a weight is its exponential
    assert_equal(found, expected, torch.float16)


def test_the_kernel_is_deterministic(kernel_device: torch.device) -> None:
    tensors = inputs(LAYOUT, dim=16, dtype=torch.float32)
    first, second = (run(tensors, LAYOUT, "triton", kernel_device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_zone_sees_another() -> None:
    query, key, value = inputs(LAYOUT)
    before = zone_attention(query, key, value, LAYOUT)
    key, value = key.clone(), value.clone()
    key[:3], value[:3] = 100.0, float("nan")
    after = zone_attention(query, key, value, LAYOUT)
    assert torch.equal(before.flatten(0, 1)[1:], after.flatten(0, 1)[1:])
    assert after[0, 0].isnan().all()


def test_the_cpu_takes_sdpa_and_names_what_is_off() -> None:
    query, key, value = inputs(LAYOUT, dtype=torch.float32)
    assert choose("zone_attention", BACKENDS, "auto", query, key, value, LAYOUT, 1.0).name == "sdpa"
    for backend in ("flash", "varlen"):
        with pytest.raises(ConfigError, match=f"`{backend}`, which cannot run .* tensors are on the CPU"):
            zone_attention(query, key, value, LAYOUT, backend=backend)
    with pytest.raises(ConfigError, match="fp16, bf16 and fp32, not float64"):
        zone_attention(query.double(), key.double(), value.double(), LAYOUT, backend="triton")
    wide = inputs(LAYOUT, dim=272, dtype=torch.float32)
    with pytest.raises(ConfigError, match="heads are 272 wide"):
        zone_attention(*wide, LAYOUT, backend="triton")


def test_shapes_that_do_not_fit_are_named() -> None:
    query, key, value = inputs(LAYOUT)
    with pytest.raises(ShapeError, match=r"queries \(2, 2, Q, H, d\), but got \(1, 2, 2, 1, 8\)"):
        zone_attention(query[:1], key, value, LAYOUT)
    with pytest.raises(ShapeError, match=r"\(71, 1, 8\), but got \(70, 1, 8\)"):
        zone_attention(query, key[1:], value, LAYOUT)
