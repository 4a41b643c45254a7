"""Gated cross-attention: every backend against the reference, and a generation step by step."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.dispatch import choose
from ct_vlm.ops.gated_cross_attention import (
    BACKENDS,
    AttentionWeights,
    MemoryKV,
    gated_cross_attention,
    memory_kv,
)

WIDTH, CHANNELS, HEADS = 10, 6, 2
MASK = torch.tensor([[True, False, True, True, False], [False] * 5])
# fp32: five chained products of up to 24 terms, each rounded to 24 bits; bf16 keeps 8 bits at each of them
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 4e-2}


def make(dtype: torch.dtype = torch.float64, *, bias: bool = True, head: int = 4, heads: int = HEADS):
    """Return hidden states, normalised ones, memory, gate and weights."""
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> torch.Tensor:
        # projections keep the size of what they project, as trained ones do: scores stay near 1
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (numbers / (shape[1] ** 0.5 if len(shape) == 2 else 1)).to(dtype).requires_grad_()

    inner = heads * head
    weights = [randn(inner, WIDTH), randn(inner, CHANNELS), randn(inner, CHANNELS), randn(WIDTH, inner)]
    biases = [randn(inner), randn(inner), randn(inner), randn(WIDTH)] if bias else []
    return [randn(2, 3, WIDTH), randn(2, 3, WIDTH), randn(2, 5, CHANNELS), randn(1), *weights, *biases]


def run(leaves: list[torch.Tensor], mask: torch.Tensor | None, backend: str, device="cpu", heads: int = HEADS):
    """Return the output and all gradients."""
    leaves = [leaf.detach().to(device).requires_grad_() for leaf in leaves]
    residual, normed, memory, gate, *parts = leaves
    weights = AttentionWeights(*parts)
    projected = memory_kv(memory, weights, num_heads=heads, mask=None if mask is None else mask.to(device))
    out = gated_cross_attention(residual, projected, weights, gate, normed=normed, backend=backend)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(out)
    grads = torch.autograd.grad(out, leaves, weight)
    return [tensor.detach().cpu().double() for tensor in (out, *grads)]


def assert_equal(found: list[torch.Tensor], expected: list[torch.Tensor], dtype: torch.dtype) -> None:
    for ours, reference in zip(found, expected, strict=True):
        assert ours.isfinite().all()
        scale = float(reference.abs().max().clamp(min=1))
        torch.testing.assert_close(ours, reference, rtol=0, atol=TOLERANCE[dtype] * scale)


def formula(leaves: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Write the op as the formula reads, sample by sample and head by head."""
    residual, normed, memory, gate, *parts = leaves
    w = AttentionWeights(*parts)
    out = []
    for base, rows, tokens, valid in zip(residual, normed, memory, mask, strict=True):
        query, key = rows @ w.query.T + w.query_bias, tokens[valid] @ w.key.T + w.key_bias
        value, pooled = tokens[valid] @ w.value.T + w.value_bias, []
        for head in range(HEADS):
            part = slice(head * 4, head * 4 + 4)
            pooled.append(torch.softmax(query[:, part] @ key[:, part].T / 2, -1) @ value[:, part])
        out.append(base + torch.tanh(gate) * (torch.cat(pooled, -1) @ w.out.T + w.out_bias))
    return torch.stack(out)


@pytest.mark.parametrize("backend", ["naive", "sdpa"])
def test_the_op_is_its_formula(backend: str) -> None:
    leaves = make()
    residual, normed, memory, gate, *parts = leaves
    weights = AttentionWeights(*parts)
    projected = memory_kv(memory, weights, num_heads=HEADS, mask=MASK)
    found = gated_cross_attention(residual, projected, weights, gate, normed=normed, backend=backend)
    torch.testing.assert_close(found, formula(leaves, MASK))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", [MASK, None], ids=["masked", "whole"])
def test_sdpa_equals_the_reference(mask: torch.Tensor | None, bias: bool) -> None:
    leaves = make(bias=bias)
    assert_equal(run(leaves, mask, "sdpa"), run(leaves, mask, "naive"), torch.float64)


@pytest.mark.parametrize("mask", [MASK, None], ids=["masked", "whole"])
@pytest.mark.parametrize("head", [4, 32, 64, 128])
def test_the_kernel_equals_the_reference(kernel_device: torch.device, head: int, mask: torch.Tensor | None) -> None:
    leaves = make(torch.float32, head=head)
    expected = run([leaf.double() for leaf in leaves], mask, "naive")
    assert_equal(run(leaves, mask, "triton", kernel_device), expected, torch.float32)


def test_the_kernel_in_half_precision(kernel_device: torch.device) -> None:
    leaves = make(torch.bfloat16, heads=1)
    expected = run([leaf.double() for leaf in leaves], MASK, "naive", heads=1)
    assert_equal(run(leaves, MASK, "triton", kernel_device, heads=1), expected, torch.bfloat16)


def test_gradients_are_those_of_finite_differences() -> None:
    def call(*leaves: torch.Tensor) -> torch.Tensor:
        residual, normed, memory, gate, *parts = leaves
        weights = AttentionWeights(*parts)
        projected = memory_kv(memory, weights, num_heads=HEADS, mask=MASK)
        return gated_cross_attention(residual, projected, weights, gate, normed=normed)

    assert torch.autograd.gradcheck(call, make(), fast_mode=True)


def test_without_valid_memory_only_the_bias_comes_through_the_gate() -> None:
    residual, _, memory, gate, *parts = make()
    weights = AttentionWeights(*parts)
    projected = memory_kv(memory, weights, num_heads=HEADS, mask=MASK)
    out = gated_cross_attention(residual, projected, weights, gate)
    assert weights.out_bias is not None
    torch.testing.assert_close(out[1], residual[1] + torch.tanh(gate) * weights.out_bias)


def test_without_a_gate_all_comes_through() -> None:
    residual, _, memory, _, *parts = make()
    weights = AttentionWeights(*parts)
    projected = memory_kv(memory, weights, num_heads=HEADS)
    open_gate = torch.tensor(40.0, dtype=torch.float64)
    expected = gated_cross_attention(residual, projected, weights, open_gate, backend="naive")
    torch.testing.assert_close(gated_cross_attention(residual, projected, weights), expected)


def test_a_closed_gate_still_has_a_gradient() -> None:
    residual, normed, memory, _, *parts = make()
    weights, gate = AttentionWeights(*parts), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    out = gated_cross_attention(residual, memory_kv(memory, weights, num_heads=HEADS), weights, gate, normed=normed)
    torch.testing.assert_close(out, residual)
    assert torch.autograd.grad(out.square().sum(), gate)[0].abs() > 1e-3


def test_steps_of_a_generation_equal_one_pass() -> None:
    residual, normed, memory, gate, *parts = make()
    weights = AttentionWeights(*parts)
    projected = memory_kv(memory, weights, num_heads=HEADS, mask=MASK)
    whole = gated_cross_attention(residual, projected, weights, gate, normed=normed)
    steps = [
        gated_cross_attention(residual[:, [step]], projected, weights, gate, normed=normed[:, [step]])
        for step in range(3)
    ]
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    # one memory, two beams: the second continues the first sample
    beams = projected.select(torch.tensor([0, 0]))
    again = gated_cross_attention(residual[[0, 0]], beams, weights, gate, normed=normed[[0, 0]])
    torch.testing.assert_close(again, whole[[0, 0]])


def test_a_wider_residual_and_autocast() -> None:
    leaves = make(torch.float32)
    residual, normed, memory, gate, *parts = leaves
    weights = AttentionWeights(*parts)
    expected = gated_cross_attention(
        residual, memory_kv(memory, weights, num_heads=HEADS), weights, gate, normed=normed
    )
    half = AttentionWeights(*(part.bfloat16() for part in parts))
    found = gated_cross_attention(
        residual, memory_kv(memory.bfloat16(), half, num_heads=HEADS), half, gate, normed=normed.bfloat16()
    )
    with torch.autocast("cpu", torch.bfloat16):
        cast = gated_cross_attention(
            residual, memory_kv(memory, weights, num_heads=HEADS), weights, gate, normed=normed
        )
    for out in (found, cast):
        # the residual stream keeps its 24 bits; what is added to it has 8
        assert out.dtype == torch.float32
        error = (out - expected).abs().max() / expected.abs().max()
        assert 1e-6 < error < TOLERANCE[torch.bfloat16]


def test_hidden_states_that_are_views() -> None:
    residual, normed, memory, gate, *parts = make()
    weights = AttentionWeights(*parts)
    projected = memory_kv(memory, weights, num_heads=HEADS)
    swapped = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in (residual, normed)]
    assert not swapped[0].is_contiguous()
    torch.testing.assert_close(
        gated_cross_attention(swapped[0], projected, weights, gate, normed=swapped[1]),
        gated_cross_attention(residual, projected, weights, gate, normed=normed),
    )


def test_what_is_off_is_named() -> None:
    query, memory = torch.randn(2, 3, 2, 4), torch.randn(2, 5, 2, 4)
    assert choose("gated_cross_attention", BACKENDS, "auto", query, memory, memory, None, 1.0).name == "sdpa"
    with pytest.raises(ConfigError, match=r"`varlen`, which cannot run .* tensors are on the CPU"):
        choose("gated_cross_attention", BACKENDS, "varlen", query, memory, memory, None, 1.0)


@pytest.mark.parametrize("backend", [0, 1], ids=["flash", "varlen"])
def test_masked_memory_is_not_for_packed_kernels(monkeypatch: pytest.MonkeyPatch, backend: int) -> None:
    from ct_vlm.ops.gated_cross_attention import attention

    for name in ("flash_why_not", "varlen_why_not"):
        monkeypatch.setattr(attention, name, lambda *args: None)
    memory = torch.randn(2, 5, 2, 4)
    why_not = BACKENDS[backend].why_not
    assert why_not(memory, memory, memory, None, 1.0) is None
    assert "masked memory" in str(why_not(memory, memory, memory, torch.ones(2), 1.0))


def test_shapes_that_do_not_fit_are_named() -> None:
    residual, normed, memory, gate, *parts = make()
    weights = AttentionWeights(*parts)
    projected = memory_kv(memory, weights, num_heads=HEADS)
    with pytest.raises(ShapeError, match=r"hidden states \(2, T, 10\), but got \(1, 3, 10\)"):
        gated_cross_attention(residual[:1], projected, weights, gate)
    with pytest.raises(ShapeError, match=r"normalised hidden states \(2, 3, 10\), but got \(2, 1, 10\)"):
        gated_cross_attention(residual, projected, weights, gate, normed=normed[:, :1])
    with pytest.raises(ShapeError, match="a gate of one element"):
        gated_cross_attention(residual, projected, weights, torch.zeros(3))
    narrow = MemoryKV(projected.key[..., :2], projected.value[..., :2])
    with pytest.raises(ShapeError, match="output projection of width 4"):
        gated_cross_attention(residual, narrow, weights, gate)
