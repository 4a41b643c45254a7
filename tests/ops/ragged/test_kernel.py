"""The ragged kernel itself: rows that no run covers, and offsets beyond 32 bits."""

from __future__ import annotations

import torch


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: list[int], lengths: list[int]):
    found = []
    for rows, start, length in zip(query, starts, lengths, strict=True):
        keys, values = key[start : start + length], value[start : start + length]
        weights = torch.softmax(torch.einsum("mhd,thd->hmt", rows, keys) * 0.3, -1)
        found.append(torch.einsum("hmt,thd->mhd", weights, values))
    return torch.stack(found)


def test_keys_outside_every_run_get_no_gradient(kernel_device: torch.device) -> None:
    from ct_vlm.ops._ragged.kernel import ragged_attention

    starts, lengths = [5, 0], [3, 2]
    leaves = [torch.randn(shape).to(kernel_device).requires_grad_() for shape in ((2, 3, 2, 8), (9, 2, 8), (9, 2, 8))]
    ends = [torch.tensor(item, dtype=torch.int32, device=kernel_device) for item in (starts, lengths)]
    out = ragged_attention(*leaves, *ends, 3, 0.3)
    expected = reference(*leaves, starts, lengths)
    torch.testing.assert_close(out, expected)
    weight = torch.randn(out.shape).to(out)
    found, wanted = (torch.autograd.grad(item, leaves, weight) for item in (out, expected))
    torch.testing.assert_close(found, wanted)
    assert found[1][[2, 3, 4, 8]].abs().max() == 0


def test_offsets_beyond_32_bits(far_rows: torch.Tensor) -> None:
    from ct_vlm.ops._ragged.kernel import ragged_attention

    key = far_rows[:, None]
    query, value = torch.randn(1, 1, 1, 8).half(), torch.randn(3, 1, 8).half()
    start, length = torch.ones(1, dtype=torch.int32), torch.full((1,), 2, dtype=torch.int32)
    out = ragged_attention(query, key, value, start, length, 2, 0.3)
    expected = reference(query.float(), key.float(), value.float(), [1], [2])
    # fp16 rounds weights and output to 11 bits
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=5e-3)
