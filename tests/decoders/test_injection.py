from __future__ import annotations

import pytest
import torch
from torch import nn

from ct_vlm.decoders.injection import (
    LayerInjection,
    RowSelection,
    add_visual_states,
    index_of_visual,
    states_of_layer,
)

MASK = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]).bool()


def test_states_are_added_in_order_and_text_keeps_its_bits():
    hidden, states = torch.randn(2, 5, 4), torch.randn(2, 2, 4)
    out = add_visual_states(hidden, states, index_of_visual(MASK))
    expected = hidden.clone()
    expected[0, 1:3] += states[0]
    expected[1, 3:5] += states[1]
    assert torch.equal(out, expected)


def test_infinite_states_do_not_leak_into_text():
    out = add_visual_states(torch.zeros(2, 5, 4), torch.full((2, 2, 4), torch.inf), index_of_visual(MASK))
    assert torch.isfinite(out[~MASK]).all()


def test_gradient_reaches_states_and_hidden():
    hidden, states = torch.zeros(2, 5, 4, requires_grad=True), torch.zeros(2, 2, 4, requires_grad=True)
    add_visual_states(hidden, states, index_of_visual(MASK)).sum().backward()
    assert torch.equal(states.grad, torch.ones_like(states))
    assert torch.equal(hidden.grad, torch.ones_like(hidden))


def test_states_of_layer_follows_the_row_order():
    states = torch.arange(3.0).view(1, 3, 1, 1)
    assert states_of_layer(states, (4, 0, 7), 7).item() == 2
    assert states_of_layer(states, (4, 0, 7), 5) is None


class Layer(nn.Module):
    def forward(self, hidden_states, scale=1.0):
        return hidden_states * scale


@pytest.mark.parametrize("by_keyword", [True, False])
def test_hook_injects_and_hides_its_keywords(by_keyword):
    layer = Layer()
    layer.register_forward_pre_hook(LayerInjection(3), with_kwargs=True)
    visual = {"visual_states": torch.ones(2, 1, 2, 4), "visual_index": index_of_visual(MASK), "visual_layers": (3,)}
    hidden = torch.zeros(2, 5, 4)
    out = layer(hidden_states=hidden, **visual) if by_keyword else layer(hidden, 2.0, **visual)
    assert torch.equal(out[MASK], torch.full((4, 4), 1.0 if by_keyword else 2.0))
    assert not out[~MASK].any()


def test_row_selection_keeps_the_named_rows():
    head = nn.Linear(4, 6)
    selection = RowSelection()
    head.register_forward_pre_hook(selection)
    hidden = torch.randn(2, 5, 4)
    full = head(hidden)
    selection.rows = torch.tensor([1, 7])
    torch.testing.assert_close(head(hidden), torch.stack([full[0, 1], full[1, 2]])[None])
