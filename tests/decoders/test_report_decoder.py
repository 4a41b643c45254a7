from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from ct_vlm.decoders import CausalLMDecoder, ReportDecoderConfig, ReportDecoderForCausalLM, small_report_decoder
from ct_vlm.decoders.injection import index_of_visual
from ct_vlm.decoders.report_decoder import rotary_angles, rotate

SMALL = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def build(**changes):
    torch.manual_seed(0)
    return ReportDecoderForCausalLM(ReportDecoderConfig(**{**SMALL, "initializer_range": 0.2, **changes})).eval()


def test_paper_configuration_has_the_paper_number_of_parameters():
    with torch.device("meta"):
        model = ReportDecoderForCausalLM(ReportDecoderConfig())
    layer = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 2 * 2 * 512
    assert sum(p.numel() for p in model.parameters()) == 8 * layer + 1024 + 151_669 * 512 == 102_874_624


def test_rotation_keeps_norms():
    heads = torch.randn(2, 3, 50, 16, dtype=torch.float64).float()
    turned = rotate(heads, rotary_angles(torch.arange(50)[None].expand(2, -1), 16))
    torch.testing.assert_close(turned.norm(dim=-1), heads.norm(dim=-1), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(turned[:, :, 1:], heads[:, :, 1:])


def test_scores_depend_on_the_distance_only():
    query, key = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    scores = {}
    for offset in (0, 7, 300):
        q = rotate(query, rotary_angles(torch.tensor([[offset + 5]]), 16))
        k = rotate(key, rotary_angles(torch.tensor([[offset]]), 16))
        scores[offset] = (q * k).sum()
    torch.testing.assert_close(scores[7], scores[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores[300], scores[0], rtol=1e-4, atol=1e-4)


def test_rotary_base_is_used():
    angles = rotary_angles(torch.tensor([[3]]), 4, theta=100.0)
    torch.testing.assert_close(angles, torch.tensor([[[3.0, 0.3]]]))


def test_head_is_tied_and_weights_are_drawn_as_configured():
    model = build(hidden_size=64, initializer_range=0.02)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    layer = model.model.layers[0]
    assert layer.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not layer.fc1.bias.any()
    assert torch.equal(layer.attn_norm.weight, torch.ones(64))


def test_states_come_in_between_attention_and_feed_forward():
    model = build(num_hidden_layers=1)
    layer = model.model.layers[0]
    hidden, states = torch.randn(1, 4, 32), torch.randn(1, 2, 32)
    mask = torch.tensor([[False, True, True, False]])
    angles = rotary_angles(torch.arange(4)[None], 8)
    after = hidden + layer.self_attn(layer.attn_norm(hidden), angles, None)
    after[:, 1:3] += states
    expected = after + layer.fc2(nn.functional.gelu(layer.fc1(layer.ffn_norm(after))))
    injected = {"visual_states": states[:, None], "visual_index": index_of_visual(mask), "visual_layers": (0,)}
    torch.testing.assert_close(layer(hidden, angles, **injected), expected)


def test_attention_equals_a_written_out_softmax():
    model = build()
    attention = model.model.layers[0].self_attn
    hidden = torch.randn(1, 5, 32)
    angles = rotary_angles(torch.arange(5)[None], 8)
    heads = [p(hidden).view(1, 5, 4, 8).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
    scores = rotate(heads[0], angles) @ rotate(heads[1], angles).transpose(2, 3) / 8**0.5
    weights = scores.masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf).softmax(-1)
    expected = attention.o_proj((weights @ heads[2]).transpose(1, 2).reshape(1, 5, 32))
    torch.testing.assert_close(attention(hidden, angles, None), expected)


def test_eager_attention_equals_sdpa():
    model = build()
    ids = torch.randint(0, 60, (2, 9))
    mask = torch.ones(2, 9).long()
    mask[1, :3] = 0
    fast = model(ids, attention_mask=mask).logits
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask.bool()], fast[mask.bool()])


def test_gate_scales_what_is_injected_and_is_off_by_default():
    assert build().model.layers[0].gate is None
    layer = build(injection_gate=True).model.layers[0]
    nn.init.constant_(layer.gate[2].bias, -60.0)
    hidden, states = torch.randn(1, 3, 32), torch.randn(1, 3, 32)
    index = torch.arange(3)[None]
    torch.testing.assert_close(layer._inject(hidden, states, index), hidden)
    nn.init.constant_(layer.gate[2].bias, 60.0)
    torch.testing.assert_close(layer._inject(hidden, states, index), hidden + states)


def test_steps_with_a_cache_equal_one_pass():
    model = build()
    ids = torch.randint(0, 60, (2, 9))
    full = model(ids).logits
    first = model(ids[:, :4], use_cache=True)
    steps, cache = [first.logits], first.past_key_values
    steps += [model(ids[:, [at]], past_key_values=cache, use_cache=True).logits for at in range(4, 9)]
    torch.testing.assert_close(torch.cat(steps, 1), full, rtol=1e-5, atol=1e-5)


def test_loss_and_kept_logits():
    model = build()
    ids = torch.randint(0, 60, (2, 6))
    out = model(ids, labels=ids)
    expected = nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(out.loss, expected)
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, out.logits[:, -2:])


def test_saves_and_loads_as_a_transformers_model(tmp_path):
    model = build(injection_gate=True)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(0, 60, (1, 5))
    torch.testing.assert_close(again(ids).logits, model(ids).logits)
    assert again.config.injection_gate


def test_odd_head_width_is_refused():
    with pytest.raises(ValueError, match="even width"):
        ReportDecoderConfig(hidden_size=30, num_attention_heads=6)


def test_builder_passes_its_sizes(tokenizer):
    decoder = small_report_decoder(
        tokenizer, num_layers=3, embed_dim=16, num_heads=2, ffn_dim=24, max_length=99, injection_layers=[1]
    )
    config = decoder.lm.config
    assert isinstance(decoder, CausalLMDecoder)
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 16, 2)
    assert (config.intermediate_size, config.max_position_embeddings) == (24, 99)
    assert (config.vocab_size, config.eos_token_id) == (len(tokenizer), tokenizer.eos_token_id)
    assert decoder.lm.visual_settings.hybrid_mask
    assert decoder.injection_layers == (1,)


def test_copies_are_independent():
    model = build()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.model.norm.weight.zero_()
    assert model.model.norm.weight.any()
