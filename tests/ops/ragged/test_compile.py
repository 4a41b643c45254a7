"""Kernels compile for GPUs that this machine does not have: what the interpreter accepts, the compiler may not."""

from __future__ import annotations

import json

import pytest

SCRIPT = """
import json, sys, torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from ct_vlm.ops._ragged import kernel

POINTERS = {"lse": "*fp32", "delta": "*fp32", "starts": "*i32", "lengths": "*i32", "scale": "fp32"}
TENSORS = ("q", "k", "v", "out", "grad", "grad_q", "grad_k", "grad_v")
capability, dim, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
query = torch.empty(0, dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[name], device="meta")
tiles = kernel._Sizes(query, torch.Size((8, 64, 2, dim)), 64).tiles

def kind(argument):
    if argument in tiles:
        return "constexpr"
    return "*" + name if argument in TENSORS else POINTERS.get(argument, "i32")

shared = {}
for function in (kernel.ragged_fwd_kernel, kernel.ragged_bwd_q_kernel, kernel.ragged_bwd_kv_kernel):
    signature = {argument: kind(argument) for argument in function.arg_names}
    found = compile(ASTSource(function, signature, tiles), target=GPUTarget("cuda", capability, 32))
    assert found.asm["cubin"]
    shared[function.__name__] = found.metadata.shared
sys.stdout.write(json.dumps(shared))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bf16", "fp32"])
@pytest.mark.parametrize("dim", [5, 64, 128, 256])
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_and_fit(compiled, capability: int, dim: int, name: str) -> None:
    shared = json.loads(compiled(SCRIPT, capability, dim, name))
    # bytes of shared memory that a program may have on the smallest GPUs of these generations
    assert max(shared.values()) <= 99 * 1024
