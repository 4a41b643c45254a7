"""Features and visual contexts: shapes are checked, contexts concatenate."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ShapeError
from ct_vlm.features import Features, VisualContext


def test_maps_and_levels_are_each_others_inverse() -> None:
    maps = [torch.randn(2, 3, 4, 3, 2), torch.randn(2, 5, 2, 1, 1)]
    features = Features.from_maps(maps)
    assert features.grids == [(4, 3, 2), (2, 1, 1)]
    assert [tuple(level.shape) for level in features.levels] == [(2, 24, 3), (2, 2, 5)]
    for index, expected in enumerate(maps):
        assert torch.equal(features.map(index), expected)


def test_token_order_is_slices_then_rows_then_columns() -> None:
    volume = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    assert Features.from_maps([volume]).levels[0].flatten().tolist() == list(range(24))


@pytest.mark.parametrize(("shape", "grid"), [((2, 7, 4), (2, 2, 2)), ((8, 4), (2, 2, 2)), ((1, 2, 8, 4), (2, 2, 2))])
def test_level_must_fit_its_grid(shape: tuple[int, ...], grid: tuple[int, int, int]) -> None:
    with pytest.raises(ShapeError, match="level 0"):
        Features([torch.zeros(shape)], [grid])


def test_every_level_needs_a_grid() -> None:
    with pytest.raises(ShapeError, match="1 levels and 0 grids"):
        Features([torch.zeros(1, 1, 1)], [])


def test_detach_cuts_the_graph_and_keeps_the_rest() -> None:
    tokens = torch.zeros(1, 8, 4, requires_grad=True)
    mask = torch.zeros(1, 2, dtype=torch.bool)
    features = Features([tokens * 2], [(2, 2, 2)], torch.zeros(1, 2), mask).detach()
    assert not features.levels[0].requires_grad
    assert features.padding_mask is mask


def test_concat_keeps_order_and_fills_absent_states_with_zeros() -> None:
    first = VisualContext(torch.ones(1, 2, 4), {0: torch.full((1, 2, 4), 2.0)})
    second = VisualContext(torch.zeros(1, 3, 4), {5: torch.full((1, 3, 4), 7.0)})
    both = VisualContext.concat([first, second])
    assert both.num_tokens == 5
    assert both.tokens is not None
    assert both.tokens[0, :, 0].tolist() == [1, 1, 0, 0, 0]
    assert both.layer_states[0][0, :, 0].tolist() == [2, 2, 0, 0, 0]
    assert both.layer_states[5][0, :, 0].tolist() == [0, 0, 7, 7, 7]


def test_concat_joins_text_sample_by_sample() -> None:
    parts = [VisualContext(text=["a", "b"]), VisualContext(tokens=torch.zeros(2, 1, 4)), VisualContext(text=["c", "d"])]
    both = VisualContext.concat(parts)
    assert both.text == ["a c", "b d"]
    assert both.num_tokens == 1


def test_concat_of_nothing_is_empty() -> None:
    empty = VisualContext.concat([])
    assert (empty.tokens, empty.layer_states, empty.text, empty.num_tokens) == (None, {}, None, 0)


def test_contexts_of_different_batch_size_cannot_share_text() -> None:
    with pytest.raises(ValueError, match="zip"):
        VisualContext.concat([VisualContext(text=["a"]), VisualContext(text=["b", "c"])])


@pytest.mark.parametrize("states", [torch.zeros(1, 3, 4), torch.zeros(1, 2, 5)])
def test_states_must_align_with_tokens(states: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"layer_states\[3\]"):
        VisualContext(torch.zeros(1, 2, 4), {3: states})


def test_states_without_tokens_are_refused() -> None:
    with pytest.raises(ShapeError, match="None"):
        VisualContext(layer_states={0: torch.zeros(1, 2, 4)})


def test_tokens_need_three_axes() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 4\)"):
        VisualContext(torch.zeros(2, 4))


def test_to_casts_tokens_and_states() -> None:
    context = VisualContext(torch.zeros(1, 2, 4), {1: torch.zeros(1, 2, 4)}, ["t"]).to(dtype=torch.bfloat16)
    assert context.tokens is not None
    assert {context.tokens.dtype, context.layer_states[1].dtype} == {torch.bfloat16}
    assert context.text == ["t"]


def test_concat_passes_gradients_to_every_part() -> None:
    parts = [torch.zeros(1, 2, 4, requires_grad=True) for _ in range(2)]
    context = VisualContext.concat([VisualContext(part, {0: part * 2}) for part in parts])
    assert context.tokens is not None
    (context.tokens.sum() + context.layer_states[0].sum()).backward()
    assert all(torch.equal(part.grad, torch.full((1, 2, 4), 3.0)) for part in parts)


def test_memories_are_concatenated_among_themselves_with_their_masks() -> None:
    masked = VisualContext(memory=torch.zeros(2, 2, 4), memory_mask=torch.tensor([[True, False], [False, True]]))
    joined = VisualContext.concat(
        [VisualContext(torch.zeros(2, 3, 4)), masked, VisualContext(memory=torch.ones(2, 1, 4))]
    )
    assert joined.memory is not None
    assert joined.memory_mask is not None
    assert joined.memory[..., 0].tolist() == [[0, 0, 1], [0, 0, 1]]
    assert joined.memory_mask.tolist() == [[True, False, True], [False, True, True]]
    assert joined.num_tokens == 3
    plain = VisualContext.concat([VisualContext(memory=torch.zeros(2, 2, 4))])
    assert plain.tokens is plain.memory_mask is None
    moved = joined.to(dtype=torch.bfloat16)
    assert moved.memory is not None
    assert moved.memory_mask is not None
    assert (moved.memory.dtype, moved.memory_mask.dtype) == (torch.bfloat16, torch.bool)
    chosen = joined.select([1, 1, 0])
    assert chosen.memory_mask is not None
    assert chosen.memory_mask.tolist() == [[False, True, True], [False, True, True], [True, False, True]]


def test_memory_needs_three_axes_and_its_mask_needs_a_memory() -> None:
    with pytest.raises(ShapeError, match="`memory` with three axes"):
        VisualContext(memory=torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="`memory_mask`"):
        VisualContext(memory=torch.zeros(2, 3, 4), memory_mask=torch.ones(2, 2).bool())
    with pytest.raises(ShapeError, match="`memory` None"):
        VisualContext(memory_mask=torch.ones(2, 2).bool())
