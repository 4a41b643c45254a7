"""Kernels compile for GPUs that this machine does not have: what the interpreter accepts, the compiler may not."""

from __future__ import annotations

import json

import pytest

SCRIPT = """
import json, sys, torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from ct_vlm.ops.prefix_attention import kernel

KINDS = {"lse": "*fp32", "delta": "*fp32", "starts": "*i32", "valid": "*u8", "scale": "fp32"}
TENSORS = ("q", "k", "v", "out", "grad", "grad_q", "grad_k", "grad_v")
capability, dim, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
query = torch.empty(2, 4, 64, dim, dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[name], device="meta")
shared = {}
for padded in (False, True):
    constants = kernel._Sizes(query, query[:, :2], padded=padded).constants
    if not padded:
        # what `valid` points to is not read: the starts stand in for it
        KINDS["valid"] = "*i32"
    for function in (kernel.prefix_fwd_kernel, kernel.prefix_bwd_q_kernel, kernel.prefix_bwd_kv_kernel):
        signature = {}
        for argument in function.arg_names:
            other = "*" + name if argument in TENSORS else KINDS.get(argument, "i32")
            signature[argument] = "constexpr" if argument in constants else other
        found = compile(ASTSource(function, signature, constants), target=GPUTarget("cuda", capability, 32))
        assert found.asm["cubin"]
        shared[f"{function.__name__} {padded}"] = found.metadata.shared
    KINDS["valid"] = "*u8"
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
