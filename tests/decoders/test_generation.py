from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from ct_vlm.component import Component
from ct_vlm.decoders import CausalLMDecoder
from ct_vlm.decoders.generation import generation_config
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext

PROMPTS = ["Report:", "Please write a long report of this scan:", "Now <visual> write:"]


@pytest.fixture
def visual(make_visual):
    return make_visual(batch=3)


def one(visual, row):
    return VisualContext(visual.tokens[[row]], {k: v[[row]] for k, v in visual.layer_states.items()})


def relative_error(values, expected):
    return (values - expected).abs().max() / expected.abs().max()


def raw_ids(decoder, prompts, visual, steps, **options):
    """Return the new ids and the logits of every step."""
    text = decoder.encode(prompts, visual=visual, padding_side="left")
    _, inputs = decoder._inputs(text.input_ids, visual, text.attention_mask, text.visual_position)
    inputs.pop("position_ids")
    with torch.no_grad():
        out = decoder.lm.generate(
            **inputs, max_new_tokens=steps, do_sample=False, return_dict_in_generate=True, output_logits=True, **options
        )
    return out.sequences, torch.stack(out.logits, dim=1)


@pytest.mark.parametrize("hybrid_mask", [False, True])
def test_step_by_step_logits_equal_one_full_pass(family, hybrid_mask, make_decoder, visual):
    decoder = make_decoder(family, hybrid_mask=hybrid_mask, stop_token_ids=[0]).eval()
    ids, logits = raw_ids(decoder, PROMPTS, visual, steps=6)
    for row, prompt in enumerate(PROMPTS):
        text = decoder.encode([prompt])
        full = torch.cat([text.input_ids, ids[[row]]], dim=1)
        out = decoder(full, visual=one(visual, row), visual_position=text.visual_position).logits[0]
        steps = min(6, len(ids[row]))
        start = text.input_ids.shape[1] - 1
        assert relative_error(logits[row, :steps], out[start : start + steps]) < 1e-5


@pytest.mark.parametrize("hybrid_mask", [False, True])
def test_a_ragged_batch_gives_what_each_prompt_gives_alone(family, hybrid_mask, make_decoder, visual):
    decoder = make_decoder(family, hybrid_mask=hybrid_mask)
    together = decoder.generate(PROMPTS, visual, max_new_tokens=8)
    alone = [decoder.generate([p], one(visual, i), max_new_tokens=8)[0] for i, p in enumerate(PROMPTS)]
    assert together == alone
    assert len(set(together)) == 3


def test_a_cache_cannot_be_switched_off_in_silence(family, make_decoder, visual):
    decoder = make_decoder(family)
    with pytest.raises(ConfigError, match="use_cache"):
        decoder.generate(PROMPTS, visual, max_new_tokens=2, use_cache=False)


def test_visual_states_change_the_text(family, make_decoder, make_visual, visual):
    decoder = make_decoder(family)
    other = VisualContext(visual.tokens, make_visual(batch=3, seed=9, scale=3.0).layer_states)
    assert decoder.generate(PROMPTS, visual, max_new_tokens=8) != decoder.generate(PROMPTS, other, max_new_tokens=8)


def test_beams_find_a_text_at_least_as_likely_as_greedy(family, make_decoder, visual):
    decoder = make_decoder(family, hybrid_mask=True, stop_token_ids=[0])
    greedy, _ = raw_ids(decoder.eval(), PROMPTS[:1], one(visual, 0), steps=5)
    beams, _ = raw_ids(decoder, PROMPTS[:1], one(visual, 0), steps=5, num_beams=4)
    assert score(decoder, beams, visual) >= score(decoder, greedy, visual) - 1e-4
    assert len(decoder.generate(PROMPTS, visual, max_new_tokens=5, num_beams=3)) == 3


def score(decoder, ids, visual):
    text = decoder.encode(PROMPTS[:1])
    full = torch.cat([text.input_ids, ids], dim=1)
    labels = full.clone()
    labels[:, : text.input_ids.shape[1]] = -100
    out = decoder(full, labels, one(visual, 0), visual_position=text.visual_position)
    return -out.loss.item() * ids.shape[1]


def test_one_beam_is_greedy(make_decoder, visual):
    decoder = make_decoder()
    greedy = decoder.generate(PROMPTS, visual, max_new_tokens=6)
    assert greedy == decoder.generate(PROMPTS, visual, max_new_tokens=6, num_beams=1)
    assert greedy == decoder.generate(PROMPTS, visual, max_new_tokens=6, do_sample=True, temperature=0.0)
    assert greedy == decoder.generate(PROMPTS, visual, max_new_tokens=6, do_sample=True, top_k=1)


def test_sampling_follows_its_seed_and_leaves_the_global_state_alone(make_decoder, visual):
    decoder = make_decoder()
    sample = {"max_new_tokens": 8, "do_sample": True, "temperature": 3.0}
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = decoder.generate(PROMPTS, visual, seed=1, **sample)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert decoder.generate(PROMPTS, visual, seed=1, **sample) == first
    assert decoder.generate(PROMPTS, visual, seed=2, **sample) != first


def test_every_sample_stops_at_its_own_end(make_decoder, visual):
    decoder = make_decoder("llama", stop_token_ids=[0]).eval()
    ids, _ = raw_ids(decoder, PROMPTS, visual, steps=12)
    stop = int(ids[0, 3])
    ends = [row.tolist().index(stop) if stop in row.tolist() else 12 for row in ids]
    assert len(set(ends)) > 1
    stopping = make_decoder("llama", stop_token_ids=[stop])
    texts = stopping.generate(PROMPTS, visual, max_new_tokens=12)
    kept = [row[: end + 1] for row, end in zip(ids, ends, strict=True)]
    assert texts == [decoder.tokenizer.decode(row, skip_special_tokens=True) for row in kept]


def test_texts_hold_new_tokens_only_and_no_special_ones(make_decoder, visual):
    for text in make_decoder().generate(PROMPTS, visual, max_new_tokens=6):
        assert not any(prompt in text for prompt in PROMPTS)
        assert "<pad>" not in text
        assert "<eos>" not in text


def test_generates_without_visual_context_and_with_its_text(make_decoder, visual):
    decoder = make_decoder()
    assert len(decoder.generate(PROMPTS[:2], max_new_tokens=3)) == 2
    spliced = decoder.generate(["<text> Report:"], VisualContext(text=["Age 61."]), max_new_tokens=6)
    assert spliced == decoder.generate(["Age 61. Report:"], max_new_tokens=6)


def test_modes_are_restored(make_decoder, visual):
    decoder = make_decoder(gradient_checkpointing=True).train()
    decoder.lm.model.layers[1].eval()
    decoder.generate(PROMPTS, visual, max_new_tokens=2)
    assert decoder.lm.training
    assert decoder.lm.model.layers[0].training
    assert not decoder.lm.model.layers[1].training


def test_weights_bring_their_stop_tokens_but_not_their_sampling(make_decoder, tokenizer, visual, tmp_path):
    plain = make_decoder("llama")
    lm = AutoModelForCausalLM.from_config(plain.lm.config)
    lm.load_state_dict(plain.lm.state_dict())
    lm.generation_config.update(do_sample=True, temperature=9.0, repetition_penalty=5.0, eos_token_id=[7, 9])
    lm.save_pretrained(tmp_path)
    decoder = CausalLMDecoder(str(tmp_path), tokenizer)
    assert decoder.stop_token_ids == sorted({7, 9, tokenizer.eos_token_id})
    assert Component.from_config(decoder.to_config()).stop_token_ids == decoder.stop_token_ids
    decoder.stop_token_ids = plain.stop_token_ids
    assert decoder.generate(PROMPTS, visual, max_new_tokens=6) == plain.generate(PROMPTS, visual, max_new_tokens=6)


def test_named_errors(make_decoder, make_visual, visual):
    decoder = make_decoder("gpt2")
    with pytest.raises(ShapeError, match="NaN or infinite"):
        decoder.generate(PROMPTS, VisualContext(visual.tokens * torch.nan))
    with pytest.raises(ShapeError, match="the language model has 256"):
        decoder.generate(PROMPTS, visual, max_new_tokens=300)
    with pytest.raises(ShapeError, match="a batch of 3"):
        decoder.generate(PROMPTS, make_visual(batch=1))
    for bad in ({"max_new_tokens": 0}, {"max_new_tokens": 1, "num_beams": 0}):
        with pytest.raises(ConfigError, match="Expected max_new_tokens"):
            decoder.generate(PROMPTS, visual, **bad)
    with pytest.raises(ConfigError, match="temperature=0"):
        generation_config([1], 0, max_new_tokens=1, temperature=-1.0)
