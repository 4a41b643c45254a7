"""The projected memory."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ShapeError
from ct_vlm.ops.gated_cross_attention import AttentionWeights, memory_kv

WEIGHTS = AttentionWeights(*(torch.randn(shape) for shape in ((8, 6), (8, 5), (8, 5), (6, 8), 8, 8, 8, 6)))


def test_keys_and_values_are_projected_by_head() -> None:
    memory = torch.randn(2, 3, 5)
    found = memory_kv(memory, WEIGHTS, num_heads=2)
    assert found.lengths is None
    torch.testing.assert_close(found.key[:, :, 1], memory @ WEIGHTS.key[4:].T + WEIGHTS.key_bias[4:])
    torch.testing.assert_close(found.value[:, :, 0], memory @ WEIGHTS.value[:4].T + WEIGHTS.value_bias[:4])


def test_masked_tokens_go_behind_the_valid_ones_in_order() -> None:
    memory = torch.randn(3, 4, 5)
    mask = torch.tensor([[False, True, False, True], [True] * 4, [False] * 4])
    found, plain = memory_kv(memory, WEIGHTS, num_heads=2, mask=mask), memory_kv(memory, WEIGHTS, num_heads=2)
    assert found.lengths is not None
    assert found.lengths.tolist() == [2, 4, 0]
    torch.testing.assert_close(found.key[0, :2], plain.key[0, [1, 3]])
    torch.testing.assert_close(found.value[1], plain.value[1])


def test_select_repeats_and_reorders() -> None:
    found = memory_kv(torch.randn(2, 3, 5), WEIGHTS, num_heads=2, mask=torch.tensor([[True] * 3, [True, False, False]]))
    beams = found.select(torch.tensor([1, 1, 0]))
    assert torch.equal(beams.key, found.key[[1, 1, 0]])
    assert torch.equal(beams.value, found.value[[1, 1, 0]])
    assert beams.lengths is not None
    assert beams.lengths.tolist() == [1, 1, 3]
    assert memory_kv(torch.randn(2, 3, 5), WEIGHTS, num_heads=2).select(torch.tensor([0])).lengths is None


def test_shapes_that_do_not_fit_are_named() -> None:
    memory = torch.randn(2, 3, 5)
    with pytest.raises(ShapeError, match=r"memory \(B, M, 5\), but got \(2, 3, 4\)"):
        memory_kv(memory[..., :4], WEIGHTS, num_heads=2)
    with pytest.raises(ShapeError, match="`num_heads` to divide"):
        memory_kv(memory, WEIGHTS, num_heads=3)
    with pytest.raises(ShapeError, match=r"mask \(2, 3\), but got \(2, 2\)"):
        memory_kv(memory, WEIGHTS, num_heads=2, mask=torch.ones(2, 2))
