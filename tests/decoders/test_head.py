"""The loss without logits: when it is taken, and that it is the loss of all logits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ct_vlm.decoders import CausalLMDecoder
from ct_vlm.decoders.head import skips_head

PROMPTS, TARGETS = ["Report:", "Please write a report:"], ["Clear lungs. No nodule.", "A nodule of 3.5 mm."]


def batch_of(decoder):
    return decoder.encode(PROMPTS, TARGETS).inputs()


def losses_and_gradients(decoder, visual, monkeypatch):
    """Return loss and gradients with the head's loss, and with the head run."""
    results = []
    parameters = [p for p in decoder.parameters() if p.requires_grad]
    for plain in (True, False):
        if not plain:
            monkeypatch.setattr("ct_vlm.decoders.head.skips_head", lambda lm: False)
        loss = decoder(**batch_of(decoder), visual=visual).loss
        results.append((loss, torch.autograd.grad(loss, parameters)))
    return results


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"lora": {"r": 2, "lora_alpha": 4}}])
def test_loss_and_gradients_equal_those_of_the_head(family, options, make_decoder, make_visual, monkeypatch):
    decoder = make_decoder(family, hybrid_mask=True, **options).train()
    assert decoder.lm.visual_settings.plain_head is None
    without, with_head = losses_and_gradients(decoder, make_visual(layers=(0, 1)), monkeypatch)
    torch.testing.assert_close(without, with_head, rtol=1e-4, atol=1e-6)
    assert decoder.lm.visual_settings.plain_head


def test_first_loss_equals_later_ones(make_decoder, make_visual):
    decoder, visual = make_decoder("report", hybrid_mask=True), make_visual()
    losses = [decoder(**batch_of(decoder), visual=visual).loss for _ in range(3)]
    assert losses[0] == losses[1] == losses[2]


def test_the_head_computes_no_logits(make_decoder, make_visual, monkeypatch):
    decoder = make_decoder()
    shapes, linear = [], nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda x, w, b=None: shapes.append(x.shape) or linear(x, w, b))
    for rows in (1, 0):
        decoder(**batch_of(decoder), visual=make_visual())
        assert [shape for shape in shapes if len(shape) == 3][-1] == (1, rows, 32)


@pytest.mark.parametrize(
    ("model_type", "values"),
    [
        ("gemma2", {"head_dim": 8, "num_key_value_heads": 2, "final_logit_softcapping": 30.0}),
        ("granite", {"num_key_value_heads": 2, "logits_scaling": 8.0}),
    ],
)
def test_logits_that_are_changed_after_the_head_are_seen(model_type, values, tokenizer, make_visual, monkeypatch):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    decoder = CausalLMDecoder({"model_type": model_type, **sizes, **values}, tokenizer).eval()
    visual = make_visual(layers=(0, 1))
    losses = [decoder(**batch_of(decoder), visual=visual).loss for _ in range(2)]
    assert not skips_head(decoder.lm)
    full = decoder(**batch_of(decoder), visual=visual, output_logits=True)
    torch.testing.assert_close(losses, [full.loss, full.loss])


def test_heads_with_bias_adapters_or_spectators_are_run(make_decoder):
    decoder = make_decoder()
    assert skips_head(decoder.lm)
    handle = decoder.lm.lm_head.register_forward_hook(lambda *args: None)
    assert not skips_head(decoder.lm)
    handle.remove()
    assert skips_head(decoder.lm)
    decoder.lm.lm_head.bias = nn.Parameter(torch.zeros(len(decoder.tokenizer)))
    assert not skips_head(decoder.lm)
    adapted = make_decoder(lora={"r": 2, "lora_alpha": 4, "target_modules": ["lm_head"]})
    assert not skips_head(adapted.lm)


def test_a_head_of_zeros_says_nothing(make_decoder, make_visual):
    decoder = make_decoder()
    nn.init.zeros_(decoder.lm.lm_head.weight)
    loss = decoder(**batch_of(decoder), visual=make_visual()).loss
    assert not skips_head(decoder.lm)
    torch.testing.assert_close(loss.exp().item(), float(len(decoder.tokenizer)), rtol=1e-4, atol=0)


def test_nothing_is_kept_after_the_loss(make_decoder, make_visual):
    decoder = make_decoder()
    decoder(**batch_of(decoder), visual=make_visual())
    rows = decoder.lm.visual_settings.rows
    assert (rows.rows, rows.takes, rows.taken, rows.instead) == (None, False, None, None)
    twin = copy.deepcopy(decoder)
    assert twin.lm.visual_settings.plain_head


def test_bfloat16_autocast(make_decoder, make_visual):
    decoder = make_decoder("report", hybrid_mask=True)
    batch, visual = batch_of(decoder), make_visual()
    exact = decoder(**batch, visual=visual).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = decoder(**batch, visual=visual).loss
        full = decoder(**batch, visual=visual, output_logits=True).loss
    torch.testing.assert_close(loss, full, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(loss, exact, rtol=5e-2, atol=5e-2)
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in decoder.parameters() if p.grad is not None)
