from __future__ import annotations

import math

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.modules import CrossAttentionAdapters, GatedCrossAttention
from ct_vlm.ops.dispatch import triton_usable


def formula(adapter, hidden, memory, heads):
    """Eq. 7 with norm and gate, in plain torch, one head at a time."""
    hidden, memory = hidden.double(), memory.double()
    query, key, value = adapter.query(adapter.norm(hidden)), adapter.key(memory), adapter.value(memory)
    parts = []
    for q, k, v in zip(*(x.chunk(heads, dim=-1) for x in (query, key, value)), strict=True):
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        parts.append(scores.softmax(-1) @ v)
    gate = 1.0 if adapter.gate is None else adapter.gate.tanh()
    return hidden + gate * adapter.out(torch.cat(parts, dim=-1))


@pytest.mark.parametrize("gate", ["tanh", None])
def test_it_is_the_formula(gate):
    adapter = GatedCrossAttention(24, 3, memory_dim=10, gate=gate, gate_init=0.7, init_gain=1.0).double()
    hidden, memory = torch.randn(2, 5, 24).double(), torch.randn(2, 7, 10).double()
    expected = formula(adapter, hidden, memory, 3)
    torch.testing.assert_close(adapter(hidden, adapter.project(memory)), expected, rtol=1e-12, atol=1e-12)


def test_an_adapter_has_seven_tensors_and_six_without_a_gate():
    names = {name for name, _ in GatedCrossAttention(16, 2).named_parameters()}
    assert names == {"norm.weight", "norm.bias", "query.weight", "key.weight", "value.weight", "out.weight", "gate"}
    assert {name for name, _ in GatedCrossAttention(16, 2, gate=None).named_parameters()} == names - {"gate"}


def test_projections_start_with_a_gain_of_three_tenths():
    adapter = GatedCrossAttention(64, 4)
    bound = 0.3 * math.sqrt(6 / 128)
    for linear in (adapter.query, adapter.key, adapter.value, adapter.out):
        assert linear.weight.abs().max() <= bound
        assert linear.weight.abs().max() > 0.98 * bound
        assert linear.bias is None
    torch.testing.assert_close(adapter.gate.detach(), torch.tensor([0.1]))


def test_masked_memory_counts_for_nothing_and_a_sample_without_memory_stays():
    adapter = GatedCrossAttention(16, 2, gate_init=1.0, init_gain=2.0)
    hidden, memory = torch.randn(2, 3, 16), torch.randn(2, 4, 16)
    mask = torch.tensor([[True, False, True, False], [False] * 4])
    out = adapter(hidden, adapter.project(memory, mask))
    short = adapter(hidden[:1], adapter.project(memory[:1, ::2]))
    torch.testing.assert_close(out[:1], short)
    assert torch.equal(out[1], hidden[1])


def test_the_order_of_the_memory_does_not_matter():
    adapter = GatedCrossAttention(16, 2, gate_init=1.0, init_gain=2.0)
    hidden, memory = torch.randn(2, 3, 16), torch.randn(2, 4, 16)
    torch.testing.assert_close(
        adapter(hidden, adapter.project(memory)), adapter(hidden, adapter.project(memory.flip(1)))
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hidden_states_keep_their_type(dtype):
    adapter = GatedCrossAttention(16, 2, gate_init=1.0, init_gain=2.0)
    hidden, memory = torch.randn(1, 3, 16), torch.randn(1, 4, 16)
    expected = adapter(hidden, adapter.project(memory))
    out = adapter(hidden.to(dtype), adapter.project(memory.to(dtype)))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=2e-2, atol=2e-2)


def test_every_layer_has_its_own_view_of_the_memory():
    adapters = CrossAttentionAdapters(16, [3, 1], 2, memory_dim=6, gate_init=1.0, init_gain=2.0)
    memory, hidden = torch.randn(2, 5, 6), torch.randn(2, 4, 16)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    states, lengths = adapters.remember(memory, mask)
    assert states.shape == (2, 2, 2, 5, 2, 8)
    assert lengths.tolist() == [5, 2]
    for layer in (3, 1):
        adapter, projector = adapters.adapters[str(layer)], adapters.projectors[str(layer)]
        expected = adapter(hidden, adapter.project(projector(memory), mask))
        torch.testing.assert_close(adapters(hidden, layer, states, lengths), expected)
    assert not torch.allclose(adapters(hidden, 3, states, lengths), adapters(hidden, 1, states, lengths))


@pytest.mark.parametrize("backend", ["sdpa", "triton"])
def test_backends_read_the_stacked_keys_and_values_alike(backend):
    if backend == "triton" and (reason := triton_usable(torch.device("cpu"))):
        pytest.skip(reason)
    exact = CrossAttentionAdapters(32, [0, 1], 2, gate_init=1.0, init_gain=2.0, backend="naive")
    other = CrossAttentionAdapters(32, [0, 1], 2, gate_init=1.0, init_gain=2.0, backend=backend)
    other.load_state_dict(exact.state_dict())
    memory, hidden, mask = torch.randn(2, 5, 32), torch.randn(2, 1, 32), torch.ones(2, 5).bool()
    mask[1, :3] = False
    for chosen in (None, mask):
        found = [a(hidden, 1, *a.remember(memory, chosen)) for a in (exact, other)]
        torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


def test_without_projectors_adapters_read_the_memory_itself():
    adapters = CrossAttentionAdapters(16, [0], 2, memory_dim=6, project=False)
    assert len(adapters.state_dict()) == 7
    assert adapters.remember(torch.randn(1, 3, 6))[0].shape == (1, 1, 2, 3, 2, 8)


def test_the_papers_adapters_have_21_tensors_and_three_projectors():
    with torch.device("meta"):
        adapters = CrossAttentionAdapters(3072, [7, 14, 21], 24)
    assert len(adapters.adapters.state_dict()) == 21
    assert len(adapters.projectors.state_dict()) == 6
    width = 3072
    assert sum(p.numel() for p in adapters.adapters.parameters()) == 3 * (4 * width**2 + 2 * width + 1)
    assert sum(p.numel() for p in adapters.projectors.parameters()) == 3 * (width**2 + width)


def test_round_trip(tmp_path):
    adapters = CrossAttentionAdapters(16, [1, 3], 2, gate=None, memory_dim=6)
    adapters.save_pretrained(tmp_path)
    again = Component.from_pretrained(tmp_path)
    assert again.to_config() == adapters.to_config()
    for mine, theirs in zip(adapters.remember(torch.ones(1, 3, 6)), again.remember(torch.ones(1, 3, 6)), strict=True):
        assert mine is theirs is None or torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: GatedCrossAttention(16, 3), "divide"),
        (lambda: GatedCrossAttention(16, 2, gate="sigmoid"), "sigmoid"),
        (lambda: CrossAttentionAdapters(16, [], 2), "at least one"),
        (lambda: CrossAttentionAdapters(16, [1, 1], 2), "distinct"),
        (lambda: CrossAttentionAdapters(16, [-1], 2), "from 0"),
    ],
)
def test_named_errors(build, words):
    with pytest.raises(ConfigError, match=words):
        build()
