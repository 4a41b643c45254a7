"""Kernels that the interpreter runs must also compile for GPUs; no GPU is needed for that."""

from __future__ import annotations

import pytest

SCRIPT = """
import importlib, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# kernel: types of its arguments in order (constants as NAME=value)
INT, ONE = "i32", "one"
KERNELS = {
    ("mask_pool", "_chunk_sum_kernel"): [
        [dtype, "*i32", "*fp32", "*i64", "*i64", "*fp32", INT, INT, stride, stride, ONE, True, 16, 128]
        for dtype in ("*fp32", "*bf16") for stride in (INT, "i64")
    ],
    ("mask_pool", "_region_sum_kernel"): [["*fp32", "*i64", "*fp32", INT, 128]],
    ("mask_pool", "_spread_kernel"): [
        ["*fp32", "*i32", "*fp32", "*i32", dtype, INT, INT, INT, INT, INT, ONE, True, 16, 128]
        for dtype in ("*fp32", "*bf16")
    ],
    ("region_pool", "_count_kernel"): [
        [dtype, "*i32", INT, number, number, bins, 1024, 16]
        for dtype in ("*u8", "*i16", "*i64") for number, bins in ((INT, 256), (ONE, 32))
    ],
    ("region_pool", "_pool_kernel"): [
        [dtype, "*i64", dtype, dtype, *[size] * 6, INT, INT, INT, INT, INT, ONE, 16, 128]
        for dtype in ("*fp32", "*bf16") for size in (INT, ONE)
    ],
    ("region_pool", "_spread_kernel"): [
        ["*fp32", "*fp32", "*i64", dtype, *[size] * 6, INT, 2, 2, 16, 128]
        for dtype in ("*fp32", "*bf16") for size in (INT, ONE)
    ],
    ("sigreg", "_sums_kernel"): [["*fp32", "*fp32", INT, INT, INT, "fp32", 17, 32, 64, 16, 256]],
    ("sigreg", "_gradient_kernel"): [["*fp32", "*fp32", "*fp32", INT, INT, INT, "fp32", 17, 64, 16]],
}
for (op, name), cases in KERNELS.items():
    kernel = getattr(importlib.import_module(f"ct_vlm.ops.{op}.kernel"), name)
    for case in cases:
        # Triton turns an argument that is 1 into a constant, too
        types = {arg: 1 if value == ONE else value for arg, value in zip(kernel.arg_names, case, strict=True)}
        constants = {arg: value for arg, value in types.items() if not isinstance(value, str)}
        signature = {arg: "constexpr" if arg in constants else value for arg, value in types.items()}
        places = {(kernel.arg_names.index(arg),): value for arg, value in constants.items()}
        source = ASTSource(fn=kernel, signature=signature, constexprs=places)
        for capability in (80, 90):
            compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
            assert compiled.asm["ptx"], (op, name, case)
print("compiled")
"""


@pytest.mark.slow
def test_kernels_compile_for_gpus(compiled) -> None:
    assert compiled(SCRIPT).strip() == "compiled"
