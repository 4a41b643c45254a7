"""The prefix kernel beyond 32 bits."""

from __future__ import annotations

import mmap

import pytest
import torch


def test_offsets_beyond_32_bits(kernel_device: torch.device) -> None:
    if kernel_device.type != "cpu":
        pytest.skip("needs memory that is only reserved, never touched: host memory")
    from ct_vlm.ops.prefix_attention.kernel import prefix_attention_triton

    # the third key is 2**31 elements behind the first, in pages that cost nothing until they are written
    stride, dim = 2**30, 8
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        pages = mmap.mmap(-1, 2 * (2 * stride + dim), flags=flags)
    except (OSError, AttributeError) as error:
        pytest.skip(f"this system does not reserve 4 GiB of addresses: {error}")
    key = torch.frombuffer(pages, dtype=torch.float16).as_strided((1, 1, 3, dim), (1, 1, stride, 1))
    for place in range(3):
        key[0, 0, place] = torch.randn(dim)
    query, value = torch.randn(1, 1, 2, dim).half(), torch.randn(1, 1, 3, dim).half()
    out = prefix_attention_triton(query, key, value, torch.tensor([0]), None, 1, 0.3)
    scores = query.float() @ key.float().transpose(2, 3) * 0.3
    scores[..., 0, 2] = float("-inf")
    # fp16 rounds weights and output to 11 bits
    torch.testing.assert_close(out.float(), scores.softmax(-1) @ value.float(), rtol=0, atol=5e-3)
