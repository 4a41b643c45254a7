"""The small decoder attends by the layout of its tokens, and gives what the dense mask gives."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.decoders import visual_lm
from ct_vlm.features import VisualContext
from ct_vlm.ops.prefix_attention import sdpa

PROMPTS = ["Report:", "Please write <visual> a report:", "Now <visual> write:"]
TARGETS = ["Clear lungs. No nodule.", "A nodule of 3.5 mm.", "No effusion."]


@pytest.fixture(params=["mask", "two calls"], autouse=True)
def _form(request, monkeypatch):
    """Run both forms of the op at the tiny lengths of these tests."""
    monkeypatch.setattr(sdpa, "SPLIT_FROM", 1 if request.param == "two calls" else 10_000)


@pytest.fixture
def dense(monkeypatch):
    """Take the layout away, so that the decoder builds the dense mask."""

    def switch():
        monkeypatch.setattr(visual_lm, "PrefixLayout", None)
        monkeypatch.setattr("ct_vlm.decoders.report_decoder.ReportDecoderPreTrainedModel.attends_by_layout", False)

    return switch


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_training_equals_the_dense_mask(side, checkpointing, make_decoder, make_visual, dense):
    decoder = make_decoder("report", hybrid_mask=True, gradient_checkpointing=checkpointing).train()
    visual = make_visual(batch=3, layers=(0, 1))
    results = []
    for _ in range(2):
        batch = decoder.encode(PROMPTS, TARGETS, padding_side=side).inputs()
        loss = decoder(**batch, visual=visual).loss
        logits = decoder(**batch, visual=visual, output_logits=True).logits[batch["attention_mask"].bool()]
        results.append((loss, logits, torch.autograd.grad(loss, list(decoder.parameters()))))
        dense()
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_texts_equal_those_of_the_dense_mask(options, make_decoder, make_visual, dense):
    decoder, visual = make_decoder("report", hybrid_mask=True), make_visual(batch=3)
    texts = decoder.generate(PROMPTS, visual, max_new_tokens=6, **options)
    dense()
    assert decoder.generate(PROMPTS, visual, max_new_tokens=6, **options) == texts


def test_the_op_runs_once_a_layer(make_decoder, make_visual, monkeypatch):
    calls = []
    op = "ct_vlm.decoders.report_decoder.prefix_attention"
    from ct_vlm.ops.prefix_attention import prefix_attention

    monkeypatch.setattr(op, lambda *args, **kwargs: calls.append(args[3]) or prefix_attention(*args, **kwargs))
    decoder, visual = make_decoder("report", hybrid_mask=True), make_visual(batch=3)
    decoder(**decoder.encode(PROMPTS, TARGETS).inputs(), visual=visual)
    assert len(calls) == 3
    assert len({id(layout) for layout in calls}) == 1


@pytest.mark.parametrize("options", [{"attn_implementation": "eager"}, {"hybrid_mask": False}])
def test_other_attention_is_left_alone(options, make_decoder, make_visual, monkeypatch):
    monkeypatch.setattr("ct_vlm.decoders.report_decoder.prefix_attention", None)
    decoder = make_decoder("report", **{"hybrid_mask": True, **options})
    loss = decoder(**decoder.encode(PROMPTS, TARGETS).inputs(), visual=make_visual(batch=3)).loss
    assert loss.isfinite()


def test_dropout_in_training_takes_the_mask(tokenizer, make_visual, make_decoder, monkeypatch):
    from .conftest import FAMILIES

    decoder = make_decoder(model={**FAMILIES["report"], "dropout": 0.1}, hybrid_mask=True)
    batch, visual = decoder.encode(PROMPTS, TARGETS).inputs(), make_visual(batch=3)
    assert decoder.eval().lm.attends_by_layout
    monkeypatch.setattr("ct_vlm.decoders.report_decoder.prefix_attention", None)
    assert decoder.train()(**batch, visual=visual).loss.isfinite()


def test_text_alone_is_causal(make_decoder):
    decoder = make_decoder("report", hybrid_mask=True).eval()
    batch = decoder.encode(PROMPTS, TARGETS).inputs()
    alone = decoder(**batch, output_logits=True).logits
    none = VisualContext(torch.zeros(3, 0, 32))
    with_none = decoder(**batch, visual=none, output_logits=True).logits
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(with_none[real], alone[real])
