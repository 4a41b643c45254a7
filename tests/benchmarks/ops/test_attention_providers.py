"""What the attention benchmarks time computes one thing, at tiny sizes."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ops import gated_cross_attention, zone_attention

TINY = {
    zone_attention: {"name": "tiny", "lengths": (7, 12), "zones": 3, "queries": 2, "heads": 2, "dim": 8},
    gated_cross_attention: {
        "name": "tiny", "batch": 2, "tokens": 3, "memory": 5, "heads": 2, "dim": 8, "decode": False,
    },
}  # fmt: skip
MODULES = pytest.mark.parametrize("module", list(TINY), ids=lambda module: module.__name__.rpartition(".")[2])


@MODULES
def test_every_provider_equals_the_reference(module) -> None:
    inputs = module.make_inputs(TINY[module], "cpu", torch.float64)
    expected = module.PROVIDERS[module.REFERENCE](inputs)
    assert {module.REFERENCE, module.BASELINE, "ct_vlm"} <= set(module.PROVIDERS)
    for name, provider in module.PROVIDERS.items():
        torch.testing.assert_close(provider(inputs), expected, msg=lambda text, name=name: f"{name}: {text}")


@MODULES
def test_every_provider_has_a_gradient_of_what_it_reads(module) -> None:
    for name, provider in module.PROVIDERS.items():
        inputs = module.make_inputs(TINY[module], "cpu", torch.float32)
        for leaf in module.GRADIENTS:
            inputs[leaf].requires_grad_()
        provider(inputs).sum().backward()
        own = list(inputs["module"].parameters()) if name == module.BASELINE else []
        reached = sum(leaf.grad is not None for leaf in [*(inputs[leaf] for leaf in module.GRADIENTS), *own])
        # queries, slices or memory, and the weights in whichever form a provider reads them
        assert reached >= 5, name


@MODULES
def test_numbers_are_the_same_in_every_dtype(module) -> None:
    single, double = (module.make_inputs(TINY[module], "cpu", dtype) for dtype in (torch.float32, torch.float64))
    for leaf in module.GRADIENTS:
        torch.testing.assert_close(single[leaf].double(), double[leaf])


@pytest.mark.parametrize("decode", [False, True])
def test_the_floor_is_what_this_library_computes(decode: bool) -> None:
    tiny = {**TINY[gated_cross_attention], "decode": decode}
    for module, case in ((zone_attention, TINY[zone_attention]), (gated_cross_attention, tiny)):
        inputs = module.make_inputs(case, "cpu", torch.float32)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.PROVIDERS["ct_vlm"](inputs)
        assert counter.get_total_flops() == module.floor(case, torch.float32)["flops"]
        assert module.floor(case, torch.float64)["bytes"] == 2 * module.floor(case, torch.float32)["bytes"]


def test_a_decode_step_reads_what_was_projected_before() -> None:
    case = {**TINY[gated_cross_attention], "decode": True}
    inputs = gated_cross_attention.make_inputs(case, "cpu", torch.float64)
    expected = gated_cross_attention.PROVIDERS["naive"](inputs)
    inputs["memory"].fill_(float("nan"))
    torch.testing.assert_close(gated_cross_attention.PROVIDERS["ct_vlm"](inputs), expected)
