"""Every backend against the dense reference, for real rows: layouts, padding, decode, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.dispatch import explain
from ct_vlm.ops.prefix_attention import PrefixLayout, prefix_attention, sdpa

LAYOUTS = {
    # starts, visual tokens, positions, padding on the left and on the right of every sample
    "vision first": ([0, 0], 5, 12, [(0, 0), (0, 0)]),
    "after a first token": ([1, 1], 5, 12, [(0, 0), (0, 3)]),
    "padded on the left": ([4, 0], 3, 9, [(4, 0), (0, 0)]),
    "text before differs": ([3, 2, 5], 3, 11, [(1, 0), (1, 0), (3, 0)]),
    "vision last": ([6, 6], 4, 10, [(0, 0), (2, 0)]),
    "vision only": ([0], 7, 7, [(0, 0)]),
    "no vision": ([0, 0], 0, 6, [(0, 0), (2, 1)]),
    "one position": ([0], 1, 1, [(0, 0)]),
}


@pytest.fixture(autouse=True)
def _split_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the two calls run at any length."""
    monkeypatch.setattr(sdpa, "SPLIT_FROM", 1)


def mask_of(total: int, padding: list[tuple[int, int]]) -> torch.Tensor:
    return torch.stack([(torch.arange(total) >= a) & (torch.arange(total) < total - b) for a, b in padding])


def layout_of(name: str, device: torch.device | str = "cpu") -> PrefixLayout:
    starts, length, total, padding = LAYOUTS[name]
    mask = mask_of(total, padding).to(device) if any(map(any, padding)) else None
    return PrefixLayout(torch.tensor(starts, device=device), length, total, mask)


def draw(layout: PrefixLayout, heads=2, groups=2, dim=8, rows=None, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = [(heads, rows or layout.total), (groups, layout.total), (groups, layout.total)]
    batch = len(layout.starts)
    # heads lie innermost, as projections leave them: no input is contiguous
    found = [torch.randn(batch, n, h, dim, generator=generator).to(device, dtype).transpose(1, 2) for h, n in shapes]
    return [tensor.detach().requires_grad_() for tensor in found]


def real_rows(layout: PrefixLayout, rows: int) -> torch.Tensor:
    shape = (len(layout.starts), layout.total)
    valid = torch.ones(shape, dtype=torch.bool, device=layout.starts.device) if layout.valid is None else layout.valid
    return valid[:, None, -rows:, None]


def written_out(query, key, value, layout, sample, head, row):
    """One row by its definition, in Python."""
    start, stop = int(layout.starts[sample]), int(layout.starts[sample]) + layout.length
    place = layout.total - query.shape[2] + row
    last = stop if start <= place < stop else place + 1
    seen = [key_ for key_ in range(last) if layout.valid is None or layout.valid[sample, key_]]
    scores = torch.stack([query[sample, head, row] @ key[sample, head, at] for at in seen]) / math.sqrt(query.shape[3])
    return torch.softmax(scores, 0) @ torch.stack([value[sample, head, at] for at in seen])


@pytest.mark.parametrize("name", LAYOUTS)
def test_reference_follows_the_definition(name: str) -> None:
    layout = layout_of(name)
    inputs = draw(layout)
    out = prefix_attention(*inputs, layout, backend="naive")
    for sample, row in real_rows(layout, layout.total)[:, 0, :, 0].nonzero().tolist():
        torch.testing.assert_close(out[sample, 1, row], written_out(*inputs, layout, sample, 1, row))


def compare(layout, inputs, backend, rtol=1e-7, atol=1e-7, exact=None):
    """Compare output and gradients at real rows with the reference in float64."""
    rows = inputs[0].shape[2]
    real = real_rows(layout, rows)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = prefix_attention(*exact, layout, backend="naive")
    out = prefix_attention(*inputs, layout, backend=backend)
    assert out.isfinite().all()
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.device) * real
    torch.testing.assert_close(out.double() * real, expected * real, rtol=rtol, atol=atol)
    found = torch.autograd.grad(out, inputs, weight.to(out.dtype))
    wanted = torch.autograd.grad(expected, exact, weight.to(out.dtype).double())
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("name", LAYOUTS)
def test_two_calls_equal_the_reference(name: str, groups: int) -> None:
    layout = layout_of(name)
    compare(layout, draw(layout, heads=4, groups=groups), "sdpa")


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_masked_call_equals_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa, "SPLIT_FROM", 1000)
    layout = layout_of(name)
    compare(layout, draw(layout), "sdpa")


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "one position"])
def test_kernel_equals_the_reference(name: str, kernel_device: torch.device) -> None:
    layout = layout_of(name, kernel_device)
    compare(layout, draw(layout, heads=1, groups=1, dtype=torch.float32, device=kernel_device), "triton", 1e-4, 1e-5)


@pytest.mark.parametrize("dim", [5, 32, 64, 128])
def test_kernel_over_several_tiles_and_grouped_heads(dim: int, kernel_device: torch.device) -> None:
    # fp32 tiles are 32 rows at most: vision crosses two tiles, and so does the text behind it
    mask = mask_of(70, [(3, 0)]).to(kernel_device)
    layout = PrefixLayout(torch.tensor([5], device=kernel_device), 37, 70, mask)
    inputs = draw(layout, groups=1, dim=dim, dtype=torch.float32, device=kernel_device)
    compare(layout, inputs, "triton", 1e-4, 2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernel_in_half_precision(dtype: torch.dtype, kernel_device: torch.device) -> None:
    layout = layout_of("after a first token", kernel_device)
    inputs = draw(layout, heads=1, groups=1, dtype=dtype, device=kernel_device)
    # weights, outputs and gradients are rounded to 11 (fp16) or 8 (bf16) bits; gradients sum twelve of them
    tolerance = 1e-2 if dtype == torch.float16 else 6e-2
    compare(layout, inputs, "triton", tolerance, tolerance)


@pytest.mark.parametrize("backend", ["naive", "sdpa", "triton"])
@pytest.mark.parametrize("name", ["after a first token", "padded on the left", "no vision"])
def test_pieces_of_a_prompt_equal_the_whole(name: str, backend: str, kernel_device: torch.device) -> None:
    layout = layout_of(name, kernel_device)
    inputs = [tensor.detach() for tensor in draw(layout, dtype=torch.float32, device=kernel_device)]
    whole = prefix_attention(*inputs, layout, backend="naive")
    for rows in (1, 4):
        if backend == "triton" and rows == 1:
            continue
        real = real_rows(layout, rows)
        piece = prefix_attention(inputs[0][:, :, -rows:], *inputs[1:], layout, backend=backend)
        torch.testing.assert_close(piece * real, whole[:, :, -rows:] * real)


def test_padding_in_between_tokens_takes_the_mask() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0, 1, 1, 1]])
    layout = PrefixLayout(torch.tensor([0]), 2, 8, mask)
    assert layout.runs is None
    compare(layout, draw(layout), "sdpa")


def test_scattered_padding_in_the_kernel(kernel_device: torch.device) -> None:
    mask = torch.tensor([[0, 1, 1, 1, 0, 0, 1, 1]], device=kernel_device)
    layout = PrefixLayout(torch.tensor([1], device=kernel_device), 2, 8, mask)
    compare(layout, draw(layout, dtype=torch.float32, device=kernel_device), "triton", 1e-4, 1e-5)


def test_a_sample_of_padding_alone_stays_finite() -> None:
    mask = mask_of(6, [(0, 0), (6, 0)])
    layout = PrefixLayout(torch.tensor([0, 0]), 2, 6, mask)
    compare(layout, draw(layout), "sdpa")


def test_no_dense_mask_is_built() -> None:
    layout = layout_of("text before differs")
    prefix_attention(*draw(layout), layout, backend="sdpa")
    assert layout._visible == {}


def test_samples_are_grouped_by_layout() -> None:
    layout = layout_of("text before differs")
    assert layout.runs == (((0,), 1, 2), ((1,), 1, 1), ((2,), 3, 2))
    assert layout_of("vision last").runs == (((0,), 0, 6), ((1,), 2, 4))
    assert layout_of("after a first token").runs == (((0, 1), 0, 1),)


def test_gradcheck() -> None:
    layout = layout_of("text before differs")
    inputs = draw(layout, heads=2, groups=1, dim=2)
    real = real_rows(layout, layout.total)
    assert torch.autograd.gradcheck(lambda *args: prefix_attention(*args, layout, backend="sdpa") * real, inputs)


def test_batches_without_samples() -> None:
    layout = PrefixLayout(torch.zeros(0, dtype=torch.long), 2, 4)
    assert prefix_attention(*draw(layout), layout, backend="naive").shape == (0, 2, 4, 8)


def test_cpu_takes_sdpa() -> None:
    assert [item.name for item in explain("prefix_attention", "cpu") if item.chosen] == ["sdpa"]


def test_named_errors() -> None:
    with pytest.raises(ShapeError, match="one start a sample"):
        PrefixLayout(torch.zeros(1), 2, 4)
    with pytest.raises(ShapeError, match="attention_mask"):
        PrefixLayout(torch.tensor([0]), 2, 4, torch.ones(1, 3))
    layout = PrefixLayout(torch.tensor([3]), 2, 4)
    heads = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ShapeError, match="do not fit into 4 positions"):
        prefix_attention(heads, heads, heads, layout)
    with pytest.raises(ShapeError, match="The layout is one of"):
        prefix_attention(heads[:, :, :3], heads[:, :, :3], heads[:, :, :3], layout)
    with pytest.raises(ShapeError, match="Expected queries"):
        prefix_attention(heads, heads.repeat(1, 2, 1, 1)[:, :3], heads.repeat(1, 2, 1, 1)[:, :3], layout)
    with pytest.raises(ConfigError, match="a single query"):
        prefix_attention(heads[:, :, :1], heads, heads, layout, backend="triton")
