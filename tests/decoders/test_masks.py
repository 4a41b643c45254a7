from __future__ import annotations

import torch

from ct_vlm.decoders.masks import as_additive, hybrid_attention_mask

VISUAL = torch.tensor([[0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0]]).bool()
REAL = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]]).bool()


def naive(visual, real):
    size = len(visual)
    keep = torch.zeros(size, size, dtype=torch.bool)
    for query in range(size):
        for key in range(size):
            both = visual[query] and visual[key]
            keep[query, key] = query == key or bool(real[key] and (key < query or both))
    return keep


def test_equals_the_definition_with_padding_on_both_sides():
    mask = hybrid_attention_mask(VISUAL, REAL)
    assert mask.shape == (2, 1, 7, 7)
    for row in range(2):
        assert torch.equal(mask[row, 0], naive(VISUAL[row], REAL[row]))


def test_block_holds_the_first_and_the_last_visual_token_and_nothing_else():
    mask = hybrid_attention_mask(VISUAL[:1], torch.ones(1, 7))[0, 0]
    assert mask[1, 3]
    assert mask[3, 1]
    assert not mask[0, 1]
    assert not mask[1:4, 4:].any()
    assert mask[4, 1:4].all()


def test_no_query_is_without_a_key():
    assert hybrid_attention_mask(VISUAL, torch.zeros(2, 7)).any(-1).all()


def test_additive_form_masks_the_same_pairs():
    keep = hybrid_attention_mask(VISUAL, REAL)
    additive = as_additive(keep, torch.float32)
    assert torch.equal(additive == 0, keep)
    assert torch.equal(torch.softmax(additive, -1) > 0, keep)
