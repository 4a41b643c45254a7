"""The prefix kernel beyond 32 bits."""

from __future__ import annotations

import torch


def test_offsets_beyond_32_bits(far_rows: torch.Tensor) -> None:
    from ct_vlm.ops.prefix_attention.kernel import prefix_attention_triton

    key = far_rows[None, None]
    query, value = torch.randn(1, 1, 2, 8).half(), torch.randn(1, 1, 3, 8).half()
    out = prefix_attention_triton(query, key, value, torch.tensor([0]), None, 1, 0.3)
    scores = query.float() @ key.float().transpose(2, 3) * 0.3
    scores[..., 0, 2] = float("-inf")
    # fp16 rounds weights and output to 11 bits
    torch.testing.assert_close(out.float(), scores.softmax(-1) @ value.float(), rtol=0, atol=5e-3)
