from __future__ import annotations

import pytest
import torch

from ct_vlm.decoders.sequence import first_token, label_rows, make_layout, positions_from_mask

CASES = [(1, [0, 3], 4), (3, [2, 0], 4), (5, [4, 1], 4), (2, [0, 1], 1)]


def interleave(visual, text, positions):
    rows = [torch.cat([t[:p], v, t[p:]]) for v, t, p in zip(visual, text, positions, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize(("num_visual", "positions", "length"), CASES)
def test_merge_puts_visual_tokens_before_their_text_token(num_visual, positions, length):
    visual, text = torch.randn(2, num_visual, 3), torch.randn(2, length, 3)
    layout = make_layout(num_visual, torch.tensor(positions), length)
    assert torch.equal(layout.merge(visual, text), interleave(visual, text, positions))


@pytest.mark.parametrize(("num_visual", "positions", "length"), CASES)
def test_spread_and_text_place_are_inverse(num_visual, positions, length):
    values = torch.randint(1, 9, (2, length))
    layout = make_layout(num_visual, torch.tensor(positions), length)
    spread = layout.spread(values, fill=-100)
    assert torch.equal(spread, interleave(torch.full((2, num_visual), -100), values, positions))
    assert torch.equal(spread.gather(1, layout.text_place), values)
    assert torch.equal(layout.visual_mask.sum(1), torch.tensor([num_visual] * 2))


def test_label_rows_predict_the_next_label():
    labels = torch.tensor([[-100, 5, 6], [-100, -100, 7]])
    rows, targets = label_rows(labels)
    assert rows.tolist() == [0, 1, 4]
    assert targets.tolist() == [5, 6, 7]


def test_first_token_and_positions_ignore_padding():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    assert first_token(mask).tolist() == [2, 0]
    assert positions_from_mask(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]
