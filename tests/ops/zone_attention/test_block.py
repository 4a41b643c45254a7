"""The whole block: both forms against torch.nn.MultiheadAttention and the reference."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.zone_attention import (
    AttentionWeights,
    ZoneLayout,
    block,
    block_flops,
    fold_queries,
    zone_attention_block,
)

DIM, HEADS = 12, 3
LAYOUTS = {
    "ragged": ZoneLayout((0, 3, 3, 5, 14, 15, 16), num_zones=3),
    "even": ZoneLayout.even([12, 24], num_zones=3),
    "one slice": ZoneLayout.even([1], num_zones=3),
    "no slices at all": ZoneLayout((0, 0, 0, 0), num_zones=3),
}


def make(layout: ZoneLayout, *, bias: bool = True, shared: bool = True, channels: int = DIM, queries: int = 2):
    """Return queries, slices and weights in double precision."""
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    weights = [randn(DIM, DIM), randn(DIM, channels), randn(DIM, channels), randn(10, DIM)]
    biases = [randn(DIM), randn(DIM), randn(DIM), randn(10)] if bias else []
    leading = () if shared else (layout.num_volumes,)
    return (
        randn(*leading, layout.num_zones, queries, DIM),
        randn(layout.total, channels),
        AttentionWeights(*weights, *biases),
    )


def run(layout: ZoneLayout, queries: torch.Tensor, slices: torch.Tensor, weights: AttentionWeights, **options):
    """Return the output and the gradients of everything that has one."""
    out = zone_attention_block(queries, slices, layout, weights, num_heads=HEADS, **options)
    leaves = [queries, slices, *(weight for weight in weights if weight is not None)]
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(out.dtype)
    grads = torch.autograd.grad(out, leaves, weight, allow_unused=True)
    return [out, *(torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True))]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_absorbed_equals_projected(
    monkeypatch: pytest.MonkeyPatch, name: str, bias: bool, shared: bool, padded: bool
) -> None:
    layout = LAYOUTS[name]
    monkeypatch.setattr(block, "_plain_cpu", lambda *args: not padded)
    args = make(layout, bias=bias, shared=shared, channels=7)
    expected = run(layout, *args, form="projected", backend="naive")
    found = run(layout, *args, form="absorbed")
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["absorbed", "projected"])
def test_the_block_is_multihead_attention_with_a_mask(form: str) -> None:
    layout = ZoneLayout.even([5, 8], num_zones=2)
    peer = torch.nn.MultiheadAttention(DIM, HEADS, batch_first=True, dtype=torch.float64)
    torch.nn.init.normal_(peer.in_proj_bias)
    torch.nn.init.normal_(peer.out_proj.bias)
    parts = (*peer.in_proj_weight.chunk(3), peer.out_proj.weight, *peer.in_proj_bias.chunk(3), peer.out_proj.bias)
    queries, slices = torch.randn(2, 3, DIM).double(), torch.randn(13, DIM).double()
    out = zone_attention_block(queries, slices, layout, AttentionWeights(*parts), num_heads=HEADS, form=form)
    for volume, (start, stop) in enumerate(((0, 5), (5, 13))):
        zone = torch.arange(stop - start) * 2 // (stop - start)
        blocked = zone != torch.arange(2).repeat_interleave(3).unsqueeze(1)
        rows = slices[None, start:stop]
        expected, _ = peer(queries.flatten(0, 1)[None], rows, rows, attn_mask=blocked)
        torch.testing.assert_close(out[volume].flatten(0, 1), expected[0])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_folded_queries_stand_for_the_queries(name: str, shared: bool) -> None:
    layout = LAYOUTS[name]
    queries, slices, weights = make(layout, shared=shared, channels=7)
    expected = zone_attention_block(queries, slices, layout, weights, num_heads=HEADS, form="projected", scale=0.2)
    folded = fold_queries(queries, weights, num_heads=HEADS, scale=0.2)
    # with gradients in plain operations, without them run by run
    found = zone_attention_block(folded, slices, layout, weights, num_heads=HEADS)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        again = zone_attention_block(folded, slices, layout, weights, num_heads=HEADS)
    torch.testing.assert_close(again, expected.detach())
    leaves = (queries, slices, weights.key)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), leaves) for out in (found, expected)))


def test_folded_queries_that_do_not_fit_are_named() -> None:
    layout = LAYOUTS["even"]
    queries, slices, weights = make(layout)
    folded = fold_queries(queries, weights, num_heads=HEADS)
    for options in ({"form": "projected"}, {"key_transform": torch.tanh}):
        with pytest.raises(ConfigError, match="hold the key projection"):
            zone_attention_block(folded, slices, layout, weights, num_heads=HEADS, **options)
    with pytest.raises(ShapeError, match="3 zones, 4 heads"):
        zone_attention_block(folded, slices, layout, weights, num_heads=4)
    with pytest.raises(ShapeError, match=r"slices \(35, 12\)"):
        zone_attention_block(folded, slices[1:], layout, weights, num_heads=HEADS)


def test_an_empty_zone_gives_the_output_bias() -> None:
    layout = LAYOUTS["ragged"]
    queries, slices, weights = make(layout)
    for form in ("absorbed", "projected"):
        out = zone_attention_block(queries, slices, layout, weights, num_heads=HEADS, form=form)
        assert weights.out_bias is not None
        torch.testing.assert_close(out[0, 1], weights.out_bias.expand(2, -1), rtol=0, atol=0)


def test_written_out_gradients_are_those_of_finite_differences() -> None:
    layout = ZoneLayout((0, 2, 2, 3, 6), num_zones=2)
    queries, slices, weights = make(layout, queries=1, channels=3)

    def call(queries: torch.Tensor, slices: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        return zone_attention_block(
            queries, slices, layout, AttentionWeights(*parts), num_heads=HEADS, form="absorbed", scale=0.2
        )

    assert torch.autograd.gradcheck(call, (queries, slices, *weights), fast_mode=True)


def test_only_gradients_that_are_asked_for_are_made() -> None:
    layout = LAYOUTS["even"]
    queries, slices, weights = make(layout)
    expected = run(layout, queries, slices, weights, form="absorbed")
    for index, leaf in enumerate((queries, slices, *weights)):
        parts = [tensor.detach() for tensor in (queries, slices, *weights)]
        parts[index] = leaf
        out = zone_attention_block(
            parts[0], parts[1], layout, AttentionWeights(*parts[2:]), num_heads=HEADS, form="absorbed"
        )
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        torch.testing.assert_close(torch.autograd.grad(out, leaf, weight)[0], expected[1 + index])


@pytest.mark.parametrize("shared", [True, False])
def test_single_precision_is_close(shared: bool) -> None:
    layout = LAYOUTS["even"]
    args = make(layout, shared=shared)
    expected = run(layout, *args, form="projected", backend="naive")
    queries, slices, weights = args
    single = [tensor.detach().float().requires_grad_() for tensor in (queries, slices, *weights)]
    found = run(layout, single[0], single[1], AttentionWeights(*single[2:]), form="absorbed")
    for ours, reference in zip(found, [item.detach() for item in expected], strict=True):
        # fp32 rounds to 24 bits; five products of up to 24 terms follow one another
        scale = float(reference.abs().max().clamp(min=1))
        torch.testing.assert_close(ours.double(), reference, rtol=0, atol=2e-5 * scale)


def test_strided_slices_and_expanded_queries() -> None:
    layout = LAYOUTS["ragged"]
    queries, slices, weights = make(layout)
    wide = torch.stack([slices, slices], -1)[..., 0]
    assert not wide.is_contiguous()
    expected = zone_attention_block(queries, slices, layout, weights, num_heads=HEADS, form="projected")
    found = zone_attention_block(queries.expand(2, -1, -1, -1), wide, layout, weights, num_heads=HEADS, form="absorbed")
    torch.testing.assert_close(found, expected)


def test_autocast_and_mixed_types_run_in_plain_operations() -> None:
    layout = LAYOUTS["even"]
    queries, slices, weights = make(layout)
    weights = AttentionWeights(*(weight.float() for weight in weights))
    expected = zone_attention_block(queries.float(), slices.float(), layout, weights, num_heads=HEADS, form="absorbed")
    with torch.autocast("cpu", torch.bfloat16):
        found = zone_attention_block(queries.float(), slices.float(), layout, weights, num_heads=HEADS, form="absorbed")
    assert found.dtype == torch.bfloat16
    # bf16 keeps 8 bits; the error of five chained products, relative to the largest element
    error = (found.float() - expected).abs().max() / expected.abs().max()
    assert 1e-5 < error < 5e-2


def test_the_cheaper_form_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CT_VLM_OPS", raising=False)
    calls: list[str] = []
    for name in ("absorbed_cpu", "zone_attention"):
        kept = getattr(block, name)
        monkeypatch.setattr(block, name, lambda *args, _n=name, _f=kept, **kw: calls.append(_n) or _f(*args, **kw))
    few, many = ZoneLayout.even([3], 3), ZoneLayout.even([90], 3)
    for layout, queries, options in (
        (many, 1, {}),
        (few, 9, {}),
        (many, 1, {"key_transform": torch.tanh}),
        (many, 1, {"backend": "naive"}),
        (many, 1, {"form": "projected"}),
    ):
        args = make(layout, queries=queries)
        zone_attention_block(args[0], args[1], layout, args[2], num_heads=HEADS, **options)
        flops = block_flops(layout, args[2], queries, HEADS)
        assert (flops["absorbed"] < flops["projected"]) == (layout is many)
    assert calls == ["absorbed_cpu", *["zone_attention"] * 4]
    monkeypatch.setenv("CT_VLM_OPS", "naive")
    args = make(many, queries=1)
    zone_attention_block(args[0], args[1], many, args[2], num_heads=HEADS)
    assert calls[-1] == "zone_attention"


def test_operations_are_counted_as_the_forms_run_them() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    layout = ZoneLayout.even([12, 24], num_zones=3)
    queries, slices, weights = make(layout, queries=2)
    found = block_flops(layout, weights, 2, HEADS)
    for form in ("absorbed", "projected"):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            zone_attention_block(queries, slices, layout, weights, num_heads=HEADS, form=form)
        assert counter.get_total_flops() == found[form]


def test_transformed_keys_forbid_the_absorbed_form() -> None:
    layout = LAYOUTS["even"]
    queries, slices, weights = make(layout)

    def norm(key: torch.Tensor) -> torch.Tensor:
        assert key.shape == (layout.total, HEADS, DIM // HEADS)
        return torch.nn.functional.normalize(key, dim=-1)

    found = run(layout, queries, slices, weights, key_transform=norm)
    expected = run(layout, queries, slices, weights, key_transform=norm, backend="naive")
    torch.testing.assert_close(found, expected)
    with pytest.raises(ConfigError, match="cannot be absorbed"):
        run(layout, queries, slices, weights, key_transform=norm, form="absorbed")
    with pytest.raises(ConfigError, match="no form `fast`"):
        run(layout, queries, slices, weights, form="fast")


def test_shapes_that_do_not_fit_are_named() -> None:
    layout = LAYOUTS["even"]
    queries, slices, weights = make(layout)
    for wrong, message in (
        ((queries[:2], slices, weights), r"Expected queries \(2 or none, 3, Q, 12\)"),
        ((queries[..., :4], slices, weights), "Expected queries"),
        ((queries, slices[1:], weights), r"Expected packed slices \(36, 12\), but got \(35, 12\)"),
        ((queries, slices, weights._replace(out=weights.out[:, :4])), "projections to one width"),
    ):
        with pytest.raises(ShapeError, match=message):
            zone_attention_block(wrong[0], wrong[1], layout, wrong[2], num_heads=HEADS)
    with pytest.raises(ShapeError, match="`num_heads` to divide"):
        zone_attention_block(queries, slices, layout, weights, num_heads=5)
