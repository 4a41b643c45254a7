from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM

from ct_vlm.component import Component
from ct_vlm.decoders import Decoder, tokenizer_to_config
from ct_vlm.decoders.cross_attention import MemoryReading
from ct_vlm.decoders.language_model import find_layers
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.modules import CrossAttentionAdapters

from .conftest import FAMILIES

PROMPTS = ["Report:", "Please write a long report of this scan:", "Now <visual> write:"]
TARGETS = ["Clear lungs.", "A nodule of 3.5 mm.", "No nodule."]
LAYERS = (0, 2)


@pytest.fixture
def make_reading(make_decoder):
    """Decoders whose adapters are strong enough to be seen in the logits."""

    def make(family="llama", *, gate="tanh", memory_dim=None, **options):
        torch.manual_seed(3)
        strong = {"gate": gate, "gate_init": 1.0, "init_gain": 3.0, "memory_dim": memory_dim}
        adapters = CrossAttentionAdapters(32, LAYERS, 4, **strong)
        return make_decoder(family, cross_attention=adapters, **options)

    return make


@pytest.fixture
def visual():
    return with_memory(seed=1)


def with_memory(seed, batch=3, width=32, masked=True):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, 6, dtype=torch.bool)
    mask[0, 4:], mask[-1, 0] = False, False
    memory = torch.randn(batch, 6, width, generator=generator)
    tokens = torch.randn(batch, 5, 32, generator=torch.Generator().manual_seed(11))
    return VisualContext(tokens, memory=memory, memory_mask=mask if masked else None)


def row_of(visual, row):
    mask = None if visual.memory_mask is None else visual.memory_mask[[row]]
    return VisualContext(visual.tokens[[row]], memory=visual.memory[[row]], memory_mask=mask)


def lm_inputs(decoder, prompts, visual):
    text = decoder.encode(prompts, visual=visual, padding_side="left")
    return decoder._inputs(text.input_ids, visual, text.attention_mask, text.visual_position)[1]


def generated(decoder, prompts, visual, steps, **options):
    inputs = lm_inputs(decoder.eval(), prompts, visual)
    inputs.pop("position_ids")
    options = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True, **options}
    with torch.no_grad():
        return decoder.lm.generate(**inputs, max_new_tokens=steps, **options)


def full_logits(decoder, prompt, ids, visual):
    """Logits that predict ``ids`` after a prompt, from one pass over both."""
    text = decoder.encode([prompt])
    joined = torch.cat([text.input_ids, ids[None]], dim=1)
    with torch.no_grad():
        logits = decoder(joined, visual=visual, visual_position=text.visual_position).logits[0]
    return logits[text.input_ids.shape[1] - 1 : -1]


def encoded(decoder, prompts=PROMPTS):
    return decoder.encode(prompts, TARGETS[: len(prompts)]).inputs()


def hand_written_logits(decoder, batch, visual, row):
    """Run one unpadded sample through a plain copy; hooks add the formula, in plain torch."""
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**decoder.to_config()["init_args"]["model"])).eval()
    plain.load_state_dict(decoder.lm.state_dict())
    length, at = int(batch["attention_mask"][row].sum()), int(batch["visual_position"][row])
    text = plain.get_input_embeddings()(batch["input_ids"][row, :length])
    memory = visual.memory[row][visual.memory_mask[row]]

    def reader(adapter, projector):
        def hook(_module, _args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            seen = projector(memory)
            heads = lambda x: x.unflatten(-1, (4, 8)).transpose(0, 1)  # noqa: E731
            query, key = heads(adapter.query(adapter.norm(hidden[0]))), heads(adapter.key(seen))
            weights = (query @ key.transpose(1, 2) / 8**0.5).softmax(-1)
            read = adapter.out((weights @ heads(adapter.value(seen))).transpose(0, 1).flatten(1))
            hidden = hidden + adapter.gate.tanh() * read
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    adapters = decoder.cross_attention
    for layer in LAYERS:
        hook = reader(adapters.adapters[str(layer)], adapters.projectors[str(layer)])
        find_layers(plain)[layer].register_forward_hook(hook)
    embeds = torch.cat([text[:at], visual.tokens[row], text[at:]])[None]
    logits = plain(inputs_embeds=embeds).logits[0]
    return torch.cat([logits[:at], logits[at + visual.num_tokens :]])


@torch.no_grad()
def test_reading_equals_hand_written_hooks_on_a_plain_model(family, make_reading, visual):
    decoder = make_reading(family).eval()
    batch = encoded(decoder)
    logits = decoder(**batch, visual=visual, output_logits=True).logits
    for row in range(3):
        expected = hand_written_logits(decoder, batch, visual, row)
        torch.testing.assert_close(logits[row, : len(expected)], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_another_memory_after_the_prompt_changes_the_next_token(family, make_reading, visual):
    decoder = make_reading(family).eval()
    inputs = lm_inputs(decoder, PROMPTS, visual)
    other = lm_inputs(decoder, PROMPTS, with_memory(seed=2))
    logits = {}
    for name, memory in (("same", inputs), ("other", other), ("none", {})):
        cache = decoder.lm(**inputs, use_cache=True).past_key_values
        step = {key: memory[key] for key in ("memory_states", "memory_lengths", "memory_adapters") if key in memory}
        mask = nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
        ids = torch.tensor([[7], [8], [9]])
        out = decoder.lm(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **step)
        logits[name] = out.logits[:, -1]
    scale = logits["same"].abs().max()
    for changed in ("other", "none"):
        assert ((logits[changed] - logits["same"]).abs().amax(1) > 1e-2 * scale).all()


def test_step_by_step_logits_equal_one_full_pass(family, make_reading, visual):
    decoder = make_reading(family, lora={"r": 2, "lora_alpha": 4}, hybrid_mask=True, stop_token_ids=[0])
    for name, parameter in decoder.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    out = generated(decoder, PROMPTS, visual, steps=5)
    logits = torch.stack(out.logits, dim=1)
    for row, prompt in enumerate(PROMPTS):
        expected = full_logits(decoder, prompt, out.sequences[row], row_of(visual, row))
        torch.testing.assert_close(logits[row], expected, rtol=1e-4, atol=1e-4)


def test_beams_and_several_sequences_read_the_memory_of_their_sample(family, make_reading, visual):
    decoder = make_reading(family, stop_token_ids=[0])
    prompts = ["Report:"] * 3
    options = {
        "num_beams": 4,
        "num_return_sequences": 2,
        "length_penalty": 0.0,
        "output_logits": False,
        "min_new_tokens": 4,
    }
    out = generated(decoder, prompts, visual, steps=4, output_scores=True, **options)
    assert out.sequences.shape == (6, 4)
    for number, ids in enumerate(out.sequences):
        logits = full_logits(decoder, prompts[0], ids, row_of(visual, number // 2))
        score = logits.log_softmax(-1).gather(1, ids[:, None]).sum()
        torch.testing.assert_close(out.sequences_scores[number], score, rtol=1e-4, atol=1e-4)
    sampled = generated(decoder, prompts, visual, steps=3, do_sample=True, num_return_sequences=2, min_new_tokens=3)
    logits = torch.stack(sampled.logits, dim=1)
    for number, ids in enumerate(sampled.sequences):
        expected = full_logits(decoder, prompts[0], ids, row_of(visual, number // 2))
        torch.testing.assert_close(logits[number], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_ragged_batch_gives_what_each_prompt_gives_alone(family, make_reading, visual):
    decoder = make_reading(family)
    together = decoder.generate(PROMPTS, visual, max_new_tokens=6)
    assert together == [decoder.generate([p], row_of(visual, i), max_new_tokens=6)[0] for i, p in enumerate(PROMPTS)]
    assert decoder.generate(PROMPTS, with_memory(seed=5), max_new_tokens=6) != together


@torch.no_grad()
def test_tokens_are_the_memory_where_there_is_no_other(make_reading, visual):
    decoder = make_reading().eval()
    batch = encoded(decoder)
    implicit = decoder(**batch, visual=VisualContext(visual.tokens)).loss
    explicit = decoder(**batch, visual=VisualContext(visual.tokens, memory=visual.tokens)).loss
    assert torch.equal(implicit, explicit)
    assert decoder(**batch, visual=visual).loss != implicit


@pytest.mark.parametrize("family", ["llama", "report"])
@torch.no_grad()
def test_a_memory_needs_no_tokens_in_the_prompt(family, make_reading):
    decoder = make_reading(family, memory_dim=7).eval()
    memory = torch.randn(3, 4, 7)
    batch = encoded(decoder, ["Report:"] * 3)
    read = decoder(**batch, visual=VisualContext(memory=memory), output_logits=True).logits
    plain = decoder(**batch, output_logits=True).logits
    assert (read - plain).abs().max() > 1e-2
    assert len(decoder.generate(["Report:"] * 3, VisualContext(memory=memory), max_new_tokens=3)) == 3


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@torch.no_grad()
def test_closed_gates_and_absent_context_leave_the_language_model_alone(family, make_reading, make_decoder, visual):
    decoder, plain = make_reading(family).eval(), make_decoder(family).eval()
    batch = encoded(decoder)
    assert torch.equal(decoder(**batch, output_logits=True).logits, plain(**batch, output_logits=True).logits)
    for adapter in decoder.cross_attention.adapters.values():
        adapter.gate.zero_()
    tokens = VisualContext(visual.tokens)
    closed, expected = (d(**batch, visual=tokens, output_logits=True).logits for d in (decoder, plain))
    torch.testing.assert_close(closed, expected)


def test_state_dict_keys_of_the_language_model_stay(family, make_reading, make_decoder):
    decoder, plain = make_reading(family), make_decoder(family)
    keys = {key for key in decoder.state_dict() if not key.startswith("cross_attention.")}
    assert keys == set(plain.state_dict())
    plain.load_state_dict({key: decoder.state_dict()[key] for key in keys})
    assert len(decoder.state_dict()) - len(keys) == len(LAYERS) * (7 + 2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_adapters_memory_and_lora_and_nothing_else(family, checkpointing, make_reading, visual):
    decoder = make_reading(family, lora={"r": 4, "lora_alpha": 8}, gradient_checkpointing=checkpointing).train()
    visual = VisualContext(
        visual.tokens.requires_grad_(), memory=visual.memory.requires_grad_(), memory_mask=visual.memory_mask
    )
    decoder(**encoded(decoder), visual=visual).loss.backward()
    trained = {name for name, p in decoder.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in decoder.named_parameters() if "lora_" in name or "cross_attention." in name}
    adapters = dict(decoder.cross_attention.named_parameters())
    assert all(p.grad.abs().sum() > 0 for p in adapters.values())
    valid = visual.memory.grad[visual.memory_mask]
    assert (valid.abs().amax(1) > 0).all()
    assert not visual.memory.grad[~visual.memory_mask].any()
    assert visual.tokens.grad.abs().sum() > 0


def test_gradient_checkpointing_gives_the_same_gradients(family, make_reading, visual):
    results = []
    for checkpointing in (False, True):
        decoder = make_reading(family, gradient_checkpointing=checkpointing).train()
        decoder(**encoded(decoder), visual=visual).loss.backward()
        results.append([p.grad for p in decoder.parameters()])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-5)


def test_copies_and_pickles_are_whole_and_apart(make_reading, visual):
    decoder = make_reading().train()
    batch = encoded(decoder)
    loss = decoder(**batch, visual=visual).loss
    for twin in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        torch.testing.assert_close(twin(**batch, visual=visual).loss, loss)
        with torch.no_grad():
            for adapter in twin.cross_attention.adapters.values():
                adapter.gate.zero_()
        assert (twin(**batch, visual=visual).loss - loss).abs() > 1e-3
    torch.testing.assert_close(decoder(**batch, visual=visual).loss, loss)


def test_a_call_that_failed_leaves_nothing_behind(make_reading, visual):
    decoder = make_reading().train()
    batch = encoded(decoder)
    layer = decoder.lm.model.layers[0].mlp
    handle = layer.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        decoder(**batch, visual=visual)
    handle.remove()
    twin = copy.deepcopy(decoder)
    assert torch.equal(twin(**batch).loss, decoder(**batch).loss)


def test_other_adapters_can_take_their_place(make_reading, visual):
    decoder = make_reading().eval()
    batch = encoded(decoder)
    before = decoder(**batch, visual=visual).loss
    decoder.cross_attention = CrossAttentionAdapters(32, [1], 2, gate_init=1.0, init_gain=3.0)
    assert (decoder(**batch, visual=visual).loss - before).abs() > 1e-3
    assert decoder.to_config()["init_args"]["cross_attention"]["init_args"]["layers"] == [1]


@pytest.mark.parametrize("family", ["llama", "report"])
def test_checkpoint_alone_rebuilds_everything(family, make_reading, visual, tmp_path):
    decoder = make_reading(family, lora={"r": 2, "lora_alpha": 4}, memory_dim=32).eval()
    decoder.save_pretrained(tmp_path)
    again = Component.from_pretrained(tmp_path).eval()
    assert again.to_config() == decoder.to_config()
    batch = encoded(decoder)
    mine, theirs = (d(**batch, visual=visual, output_logits=True).logits for d in (decoder, again))
    assert torch.equal(mine, theirs)
    texts = [d.generate(PROMPTS, visual, max_new_tokens=4) for d in (decoder, again)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("whole", [False, True])
def test_bfloat16_runs_with_adapters_of_either_type(family, whole, make_reading, visual):
    decoder = make_reading(family, dtype="bfloat16")
    if whole:
        decoder.to(torch.bfloat16)
    loss = decoder(**encoded(decoder), visual=visual).loss
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    exact = make_reading(family)(**encoded(decoder), visual=visual).loss
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0.1)
    assert len(decoder.generate(PROMPTS, visual, max_new_tokens=3)) == 3


def test_autocast_runs_and_has_gradients(make_reading, visual):
    decoder = make_reading().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = decoder(**encoded(decoder), visual=visual).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.cross_attention.parameters())


class Deaf(nn.Module):
    """A layer in whose model keyword arguments get lost."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states, **kwargs):
        known = {k: v for k, v in kwargs.items() if not k.startswith(("memory_", "visual_"))}
        return self.layer(hidden_states, **known)


class RecomputedWithItsHooks(nn.Module):
    """A layer as transformers before 5.23 has it: hooks run again when it is recomputed."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def __call__(self, *args, **kwargs):
        run = functools.partial(super().__call__, **kwargs)
        return checkpoint(run, *args, use_reentrant=False) if self.training else run(*args)

    def forward(self, hidden):
        return (self.linear(hidden).tanh(), None)


def test_hooks_may_run_again_when_a_layer_is_recomputed():
    adapters = CrossAttentionAdapters(8, [0], 2, gate_init=1.0, init_gain=3.0)
    layer = RecomputedWithItsHooks()
    MemoryReading(0).register(layer)
    hidden, memory = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    results = []
    for recomputes in (False, True):
        layer.train(recomputes)
        states, lengths = adapters.remember(memory)
        call = {"memory_states": states, "memory_lengths": lengths, "memory_adapters": adapters}
        out = layer(layer(hidden, **call)[0], **call)[0]
        results.append(torch.autograd.grad(out.square().sum(), [*layer.parameters(), *adapters.parameters()]))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)
        assert plain.abs().sum() > 0


def test_a_model_that_loses_the_memory_is_refused(make_reading, visual):
    decoder = make_reading()
    layers = decoder.lm.model.layers
    layers[2] = Deaf(layers[2])
    with pytest.raises(ConfigError, match=r"layers \[2\]"):
        decoder(**encoded(decoder), visual=visual)


def test_named_errors(make_reading, make_decoder, visual):
    decoder = make_reading()
    batch = encoded(decoder)
    with pytest.raises(ShapeError, match="a batch of 3"):
        decoder(**batch, visual=VisualContext(memory=torch.zeros(2, 4, 32)))
    with pytest.raises(ShapeError, match="memory_dim=8"):
        decoder(**batch, visual=VisualContext(memory=torch.zeros(3, 4, 8)))
    with pytest.raises(ShapeError, match="`memory` hold NaN"):
        decoder.generate(PROMPTS, VisualContext(visual.tokens, memory=visual.memory * torch.nan))
    with pytest.raises(ConfigError, match="no `cross_attention` to read it"):
        make_decoder()(**batch, visual=visual)
    with pytest.raises(ConfigError, match=r"layers \[3\]"):
        make_decoder(cross_attention=CrossAttentionAdapters(32, [1, 3], 4))
    with pytest.raises(ConfigError, match="Deaf without embed_dim"):
        make_decoder(cross_attention=Deaf(None))
    with pytest.raises(ConfigError, match="16 wide"):
        make_decoder(cross_attention=CrossAttentionAdapters(16, [1], 4))


def test_values_behind_the_mask_may_be_anything(make_reading, visual):
    decoder = make_reading()
    memory = visual.memory.masked_fill(~visual.memory_mask[..., None], 1e4)
    other = VisualContext(visual.tokens, memory=memory, memory_mask=visual.memory_mask)
    assert decoder.generate(PROMPTS, visual, max_new_tokens=4) == decoder.generate(PROMPTS, other, max_new_tokens=4)


def test_a_yaml_file_names_the_adapters(tokenizer, visual):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Decoder, "decoder")
    adapters = {"class_path": "CrossAttentionAdapters", "init_args": {"embed_dim": 32, "layers": [1], "num_heads": 4}}
    args = {"model": FAMILIES["llama"], "tokenizer": tokenizer_to_config(tokenizer), "cross_attention": adapters}
    named = {"class_path": "ct_vlm.decoders.CausalLMDecoder", "init_args": args}
    build = getattr(parser, "instantiate", None) or parser.instantiate_classes  # renamed in jsonargparse 4.49
    decoder = build(parser.parse_object({"decoder": named})).decoder
    assert decoder.cross_attention.layers == (1,)
    assert decoder(**encoded(decoder), visual=visual).loss.isfinite()
