from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from ct_vlm.component import Component
from ct_vlm.decoders import CausalLMDecoder
from ct_vlm.decoders.language_model import find_layers
from ct_vlm.features import VisualContext

from .conftest import FAMILIES

PROMPTS, TARGETS = ["Report:", "Please write a report:"], ["Clear lungs. No nodule.", "A nodule of 3.5 mm."]
# where states come in after the attention of their layer, those of the last layer reach no text
LAYERS = (0, 1)


def encode(decoder, **options):
    return decoder.encode(PROMPTS, TARGETS, **options).inputs()


def grads(decoder, batch, visual, parameters):
    loss = decoder(**batch, visual=visual).loss
    return torch.autograd.grad(loss, [*parameters, visual.tokens, *visual.layer_states.values()], allow_unused=True)


def with_grad(visual):
    states = {k: v.requires_grad_() for k, v in visual.layer_states.items()}
    return VisualContext(visual.tokens.requires_grad_(), states)


def test_state_dict_keys_are_those_of_transformers(family, make_decoder):
    decoder = make_decoder(family)
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**decoder.to_config()["init_args"]["model"]))
    assert set(decoder.state_dict()) == {f"lm.{key}" for key in plain.state_dict()}
    plain.load_state_dict(decoder.lm.state_dict())


def test_without_visual_context_it_is_the_plain_language_model(family, make_decoder):
    decoder = make_decoder(family, hybrid_mask=True).eval()
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**decoder.to_config()["init_args"]["model"])).eval()
    plain.load_state_dict(decoder.lm.state_dict())
    batch = encode(decoder)
    real = batch["attention_mask"].bool()
    out = decoder(**batch, output_logits=True)
    expected = plain(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    torch.testing.assert_close(out.logits[real], expected.logits[real])
    torch.testing.assert_close(out.loss, expected.loss)


def reference_logits(decoder, batch, visual, row):
    """Run one unpadded sample through a plain copy, with the states added by hand-written hooks."""
    config = AutoConfig.for_model(**decoder.to_config()["init_args"]["model"])
    plain = AutoModelForCausalLM.from_config(config).eval()
    plain.load_state_dict(decoder.lm.state_dict())
    length, at = int(batch["attention_mask"][row].sum()), int(batch["visual_position"][row])
    text = plain.get_input_embeddings()(batch["input_ids"][row, :length])
    count = visual.num_tokens
    embeds = torch.cat([text[:at], visual.tokens[row], text[at:]])[None]

    def adder(states):
        def hook(module, args, kwargs):
            hidden = args[0].clone()
            hidden[0, at : at + count] += states
            return (hidden, *args[1:]), kwargs

        return hook

    for layer, states in visual.layer_states.items():
        find_layers(plain)[layer].register_forward_pre_hook(adder(states[row]), with_kwargs=True)
    logits = plain(inputs_embeds=embeds).logits[0]
    return torch.cat([logits[:at], logits[at + count :]])


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_injection_equals_hand_written_hooks_on_a_plain_model(family, make_decoder, make_visual):
    decoder, visual = make_decoder(family).eval(), make_visual()
    batch = encode(decoder)
    logits = decoder(**batch, visual=visual, output_logits=True).logits
    for row in range(2):
        expected = reference_logits(decoder, batch, visual, row)
        torch.testing.assert_close(logits[row, : len(expected)], expected, rtol=1e-4, atol=1e-4)


def test_every_part_of_the_visual_context_matters(family, make_decoder, make_visual):
    decoder, visual = make_decoder(family).eval(), make_visual(layers=LAYERS)
    batch = encode(decoder)
    base = decoder(**batch, visual=visual, output_logits=True).logits
    for layer in visual.layer_states:
        changed = {**visual.layer_states, layer: visual.layer_states[layer].flip(1)}
        other = decoder(**batch, visual=VisualContext(visual.tokens, changed), output_logits=True).logits
        assert (other - base).abs().max() > 1e-3
    other = decoder(**batch, visual=VisualContext(visual.tokens.flip(1), visual.layer_states), output_logits=True)
    assert (other.logits - base).abs().max() > 1e-3


@pytest.mark.parametrize("visual_tokens", [0, 5])
def test_loss_from_target_rows_equals_the_loss_from_all_rows(family, visual_tokens, make_decoder, make_visual):
    decoder = make_decoder(family, hybrid_mask=True).eval()
    visual = make_visual() if visual_tokens else None
    batch = encode(decoder)
    rows, full = decoder(**batch, visual=visual), decoder(**batch, visual=visual, output_logits=True)
    torch.testing.assert_close(rows.loss, full.loss, rtol=1e-6, atol=1e-6)
    assert rows.logits is None
    target = batch["labels"][:, 1:]
    expected = nn.functional.cross_entropy(full.logits[:, :-1].flatten(0, 1), target.flatten())
    torch.testing.assert_close(rows.loss, expected, rtol=1e-5, atol=1e-5)
    assert rows.num_targets == (batch["labels"] != -100).sum()
    only_logits = decoder(**{**batch, "labels": None}, visual=visual)
    torch.testing.assert_close(only_logits.logits, full.logits)


def test_head_sees_target_rows_only(make_decoder, make_visual):
    decoder = make_decoder()
    seen = []
    decoder.lm.lm_head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    batch = encode(decoder)
    decoder(**batch, visual=make_visual())
    assert seen == [(1, int((batch["labels"] != -100).sum()), len(decoder.tokenizer))]


def test_a_batch_without_targets_has_zero_loss_with_gradient(make_decoder):
    decoder = make_decoder()
    batch = encode(decoder)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss = decoder(**batch).loss
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize("hybrid_mask", [False, True])
def test_padding_changes_nothing(family, hybrid_mask, make_decoder, make_visual):
    decoder, visual = make_decoder(family, hybrid_mask=hybrid_mask).eval(), make_visual()
    right, left = encode(decoder), encode(decoder, padding_side="left")
    together = decoder(**right, visual=visual, output_logits=True).logits[right["attention_mask"].bool()]
    on_the_left = decoder(**left, visual=visual, output_logits=True).logits[left["attention_mask"].bool()]
    torch.testing.assert_close(on_the_left, together, rtol=1e-4, atol=1e-4)
    alone = []
    for row in range(2):
        one = VisualContext(visual.tokens[[row]], {k: v[[row]] for k, v in visual.layer_states.items()})
        batch = decoder.encode(PROMPTS[row : row + 1], TARGETS[row : row + 1]).inputs()
        alone.append(decoder(**batch, visual=one, output_logits=True).logits[0])
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_hybrid_mask_lets_early_visual_tokens_see_late_ones(family, attention, make_decoder, make_visual):
    visual = make_visual(layers=())
    changed = visual.tokens.clone()
    changed[:, -1] += 1.0
    prompt = "Image <visual>"
    for hybrid in (False, True):
        decoder = make_decoder(family, hybrid_mask=hybrid, attn_implementation=attention).eval()
        hidden = {}
        for name, tokens in (("a", visual.tokens), ("b", changed)):
            batch = decoder.encode([prompt] * 2)
            context = VisualContext(tokens)
            _, inputs = decoder._inputs(batch.input_ids, context, batch.attention_mask, batch.visual_position)
            hidden[name] = decoder.lm(**inputs, use_cache=False).logits
        moved = (hidden["a"] - hidden["b"]).abs().amax(dim=(0, 2)) > 1e-6
        text_before = len(batch.input_ids[0])
        assert not moved[:text_before].any()
        assert moved[text_before : text_before + 4].all() == hybrid
        assert moved[-1]


def test_gradient_checkpointing_gives_the_same_gradients(family, make_decoder, make_visual):
    results = []
    for checkpointing in (False, True):
        decoder = make_decoder(family, hybrid_mask=True, gradient_checkpointing=checkpointing).train()
        visual = with_grad(make_visual(scale=0.1, layers=LAYERS))
        results.append(grads(decoder, encode(decoder), visual, list(decoder.parameters())))
    assert all(g is not None and g.abs().sum() > 0 for g in results[0][-3:])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_recomputes_layers(make_decoder, make_visual):
    decoder = make_decoder("llama", gradient_checkpointing=True).train()
    calls = []
    decoder.lm.model.layers[1].input_layernorm.register_forward_hook(lambda *args: calls.append(1))
    decoder(**encode(decoder), visual=make_visual()).loss.backward()
    assert len(calls) == 2


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_and_visual_inputs_get_gradients_and_nothing_else(family, checkpointing, make_decoder, make_visual):
    decoder = make_decoder(family, lora={"r": 4, "lora_alpha": 8}, gradient_checkpointing=checkpointing).train()
    names = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert names
    assert all("lora_" in name for name in names)
    visual = with_grad(make_visual(layers=LAYERS))
    decoder(**encode(decoder), visual=visual).loss.backward()
    assert {name for name, p in decoder.named_parameters() if p.grad is not None} == names
    assert any(p.grad.abs().sum() > 0 for p in decoder.parameters() if p.grad is not None)
    assert visual.tokens.grad.abs().sum() > 0
    assert all(states.grad.abs().sum() > 0 for states in visual.layer_states.values())


def test_lora_scale_is_what_was_asked_for(make_decoder):
    decoder = make_decoder(lora={"r": 4, "lora_alpha": 12, "target_modules": ["q_proj"]})
    layer = decoder.lm.model.layers[0].self_attn
    assert layer.q_proj.scaling == {"default": 3.0}
    assert not hasattr(layer.v_proj, "scaling")


def test_freeze_lm(make_decoder):
    assert not any(p.requires_grad for p in make_decoder(freeze_lm=True).parameters())


def test_states_of_the_last_layer_reach_no_text_in_the_small_decoder(make_decoder, make_visual):
    decoder, visual = make_decoder("report").eval(), make_visual(layers=(2,))
    batch = encode(decoder)
    with_states = decoder(**batch, visual=visual, output_logits=True).logits
    without = decoder(**batch, visual=VisualContext(visual.tokens), output_logits=True).logits
    torch.testing.assert_close(with_states, without)


@pytest.mark.parametrize("lora", [None, {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "lm_head"]}])
def test_copies_and_pickles_give_the_same_loss(lora, make_decoder, make_visual):
    decoder, visual = make_decoder(lora=lora, hybrid_mask=True), make_visual()
    batch = encode(decoder)
    loss = decoder(**batch, visual=visual).loss
    for twin in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        torch.testing.assert_close(twin(**batch, visual=visual).loss, loss)
        with torch.no_grad():
            twin.lm.model.norm.weight.zero_()
    torch.testing.assert_close(decoder(**batch, visual=visual).loss, loss)


def test_checkpoint_alone_rebuilds_everything(family, make_decoder, make_visual, tmp_path):
    options = {"injection_layers": [0, 2], "hybrid_mask": True, "gradient_checkpointing": True}
    decoder = make_decoder(family, lora={"r": 2, "lora_alpha": 4}, **options).eval()
    for name, parameter in decoder.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    decoder.save_pretrained(tmp_path)
    again = Component.from_pretrained(tmp_path).eval()
    assert again.to_config() == decoder.to_config()
    assert again.injection_layers == (0, 2)
    visual = make_visual()
    mine = decoder(**encode(decoder), visual=visual, output_logits=True)
    theirs = again(**encode(again), visual=visual, output_logits=True)
    assert torch.equal(mine.logits, theirs.logits)
    assert decoder.generate(PROMPTS, visual, max_new_tokens=5) == again.generate(PROMPTS, visual, max_new_tokens=5)


def test_a_pretrained_directory_loads_and_its_path_is_not_kept(tokenizer, make_decoder, make_visual, tmp_path):
    source = make_decoder("qwen3")
    folder = tmp_path / "pretrained"
    AutoModelForCausalLM.from_config(source.lm.config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    decoder = CausalLMDecoder(str(folder), str(folder)).eval()
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    batch = encode(decoder)
    real = batch["attention_mask"].bool()
    expected = plain(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(decoder(**batch, output_logits=True).logits[real], expected[real])
    config = json.dumps(decoder.to_config())
    assert str(tmp_path) not in config
    decoder.save_pretrained(tmp_path / "mine")
    again = Component.from_pretrained(tmp_path / "mine").eval()
    visual = make_visual()
    torch.testing.assert_close(again(**batch, visual=visual).loss, decoder(**batch, visual=visual).loss)


def test_a_ready_model_is_taken_over(tokenizer):
    lm = AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES["llama"], vocab_size=len(tokenizer)))
    decoder = CausalLMDecoder(lm, tokenizer)
    assert decoder.lm is lm
    assert type(lm).__name__ == "LlamaForCausalLM"
    assert decoder.to_config()["init_args"]["model"]["hidden_size"] == 32


def test_bfloat16_runs_on_float32_visual_context(family, make_decoder, make_visual):
    decoder = make_decoder(family, dtype="bfloat16", hybrid_mask=True)
    assert decoder.lm.dtype == torch.bfloat16
    loss = decoder(**encode(decoder), visual=make_visual()).loss
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert len(decoder.generate(PROMPTS, make_visual(), max_new_tokens=3)) == 2


def test_layer_states_of_two_calls_do_not_mix(make_decoder, make_visual):
    decoder = make_decoder(gradient_checkpointing=True).train()
    batch = encode(decoder)
    first, second = with_grad(make_visual(layers=(0,))), with_grad(make_visual(layers=(1, 2), seed=5))
    losses = [decoder(**batch, visual=visual).loss for visual in (first, second)]
    sum(losses).backward()
    alone = with_grad(make_visual(layers=(0,)))
    decoder(**batch, visual=alone).loss.backward()
    torch.testing.assert_close(first.layer_states[0].grad, alone.layer_states[0].grad)


def test_importing_the_package_does_not_import_transformers():
    code = "import sys, ct_vlm.decoders; sys.exit('transformers' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
