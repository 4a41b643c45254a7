from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from ct_vlm.component import Component
from ct_vlm.decoders import CausalLMDecoder
from ct_vlm.decoders.placeholders import fill_placeholders, placeholder_layout, with_placeholder
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext

TOKEN = "<|visual_region|>"
MARKED = ["Scan: <visual> Report:", "Now <visual> write a long report of this scan:"]
TARGETS = ["Clear lungs.", "A nodule of 3.5 mm."]


@pytest.fixture
def make_pair(make_decoder):
    """A decoder with a placeholder and one without, with equal weights."""

    def make(family="llama", **options):
        graft = make_decoder(family, visual_placeholder=TOKEN, **options).eval()
        plain = make_decoder(family, model=dict(graft.to_config()["init_args"]["model"]), **options).eval()
        plain.load_state_dict(graft.state_dict())
        return graft, plain

    return make


def inputs(decoder, prompts, visual, targets=None, **options):
    return decoder.encode(prompts, targets, visual, **options).inputs()


@pytest.mark.parametrize("hybrid_mask", [False, True])
@torch.no_grad()
def test_placeholders_give_what_the_marker_gives(family, hybrid_mask, make_pair, make_visual):
    graft, plain = make_pair(family, hybrid_mask=hybrid_mask)
    visual = make_visual()
    filled = inputs(graft, MARKED, visual, TARGETS)
    marked = inputs(plain, MARKED, visual, TARGETS)
    assert filled["input_ids"].shape[1] == marked["input_ids"].shape[1] + visual.num_tokens
    assert (filled["input_ids"] == graft.placeholder_id).sum(1).tolist() == [visual.num_tokens] * 2
    mine, theirs = graft(**filled, visual=visual).loss, plain(**marked, visual=visual).loss
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    text = (filled["input_ids"] != graft.placeholder_id) & filled["attention_mask"].bool()
    logits = graft(**filled, visual=visual, output_logits=True).logits[text]
    expected = plain(**marked, visual=visual, output_logits=True).logits[marked["attention_mask"].bool()]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "report"])
def test_texts_are_those_of_the_marker(family, make_pair, make_visual):
    graft, plain = make_pair(family, hybrid_mask=True)
    visual = make_visual()
    mine = graft.generate(MARKED, visual, max_new_tokens=6)
    assert mine == plain.generate(MARKED, visual, max_new_tokens=6, suppress_tokens=[graft.placeholder_id])
    assert graft.generate(["Report:"] * 2, visual, max_new_tokens=6) == graft.generate(
        ["<visual>Report:"] * 2, visual, max_new_tokens=6
    )


def test_placeholders_take_no_room_from_the_text(make_pair, make_visual):
    graft, plain = make_pair()
    visual = make_visual(batch=1, tokens=9)
    kept = []
    for decoder in (graft, plain):
        text = decoder.encode(["<visual>Report:"], ["A nodule of 3.5 mm lies in the lung."], visual, max_length=20)
        assert text.num_cut == 1
        kept.append(text.labels[text.labels >= 0].tolist())
    assert kept[0] == kept[1]


@torch.no_grad()
def test_placeholders_may_stand_apart(make_pair, make_visual):
    graft, plain = make_pair(hybrid_mask=True)
    visual = make_visual(batch=1, tokens=3, layers=(1,))
    prompt = f"upper {TOKEN} middle {TOKEN}{TOKEN} lower"
    batch = inputs(graft, [prompt], visual)
    ids = batch["input_ids"][0]
    embeds = graft.lm.get_input_embeddings()(ids)
    places = (ids == graft.placeholder_id).nonzero().squeeze(1)
    embeds[places] = visual.tokens[0]
    mask = (ids == graft.placeholder_id)[None]
    states = {"visual_states": visual.layer_states[1][:, None], "visual_layers": (1,), "visual_mask": mask}
    expected = plain.lm(inputs_embeds=embeds[None], use_cache=False, **states).logits
    torch.testing.assert_close(graft(**batch, visual=visual).logits, expected, rtol=1e-5, atol=1e-5)


def test_gradient_reaches_every_visual_token_and_no_placeholder_embedding(make_decoder, make_visual):
    decoder = make_decoder(visual_placeholder=TOKEN)
    visual = make_visual(layers=())
    visual.tokens.requires_grad_()
    decoder(**inputs(decoder, MARKED, visual, TARGETS), visual=visual).loss.backward()
    assert (visual.tokens.grad.abs().amax(-1) > 0).all()
    embedding = decoder.lm.get_input_embeddings().weight
    assert not embedding.grad[decoder.placeholder_id].any()


def test_one_special_token_is_added_and_the_callers_tokenizer_is_left_alone(tokenizer, make_decoder):
    before = len(tokenizer)
    decoder = make_decoder(visual_placeholder=TOKEN)
    assert len(tokenizer) == before
    assert len(decoder.tokenizer) == before + 1
    assert decoder.lm.get_input_embeddings().num_embeddings == before + 1
    assert decoder.tokenizer.decode([decoder.placeholder_id], skip_special_tokens=True) == ""
    again = with_placeholder(decoder.tokenizer, TOKEN)
    assert len(again) == before + 1


def test_a_pretrained_model_grows_by_one_row_and_a_spare_token_needs_none(tokenizer, make_decoder, tmp_path):
    AutoModelForCausalLM.from_config(make_decoder("qwen3").lm.config).save_pretrained(tmp_path)
    weight = AutoModelForCausalLM.from_pretrained(tmp_path).get_input_embeddings().weight
    decoder = CausalLMDecoder(str(tmp_path), tokenizer, visual_placeholder=TOKEN)
    grown = decoder.lm.get_input_embeddings().weight
    assert grown.shape[0] == weight.shape[0] + 1
    assert torch.equal(grown[:-1], weight)
    spare = CausalLMDecoder(str(tmp_path), with_placeholder(tokenizer, TOKEN), visual_placeholder="<unk>")
    assert spare.placeholder_id == tokenizer.unk_token_id


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("lora", [None, {"r": 2, "lora_alpha": 4}])
def test_checkpoint_alone_rebuilds_everything(family, lora, make_decoder, make_visual, tmp_path):
    decoder = make_decoder(family, visual_placeholder=TOKEN, lora=lora)
    visual = make_visual()
    decoder.save_pretrained(tmp_path)
    again = Component.from_pretrained(tmp_path)
    assert again.to_config() == decoder.to_config()
    assert again.placeholder_id == decoder.placeholder_id
    texts = [d.generate(MARKED, visual, max_new_tokens=4) for d in (decoder, again)]
    assert texts[0] == texts[1]


def test_the_placeholder_is_never_generated(make_decoder, make_visual, monkeypatch):
    decoder = make_decoder(visual_placeholder=TOKEN)
    with torch.no_grad():
        head = decoder.lm.get_output_embeddings().weight
        head.mul_(0.01)
        head[decoder.placeholder_id] = 100.0
    seen = []
    generate = decoder.lm.generate

    def watched(*args, **options):
        seen.append(generate(*args, **options))
        return seen[-1]

    monkeypatch.setattr(decoder.lm, "generate", watched)
    options = {"max_new_tokens": 20, "do_sample": True, "seed": 0}
    decoder.generate(MARKED, make_visual(), suppress_tokens=[7], **options)
    assert not torch.isin(seen[0], torch.tensor([decoder.placeholder_id, 7])).any()
    monkeypatch.setattr(decoder, "placeholder_id", None)
    decoder.generate(["Report:"] * 2, **options)
    assert (seen[1] == len(decoder.tokenizer) - 1).any()


def test_named_errors(make_decoder, make_visual):
    decoder = make_decoder(visual_placeholder=TOKEN)
    visual = make_visual()
    with pytest.raises(ShapeError, match=r"holds 2 times .* 5 visual tokens"):
        decoder.encode([TOKEN * 2] * 2, visual=visual)
    with pytest.raises(ConfigError, match="1 times and"):
        decoder.encode([f"<visual>{TOKEN}"], visual=visual)
    with pytest.raises(ConfigError, match="2 times and"):
        decoder.encode(["<visual> <visual>"], visual=visual)
    batch = decoder.encode(MARKED, TARGETS).inputs()
    with pytest.raises(ShapeError, match=r"5 visual tokens a sample, but the texts have \[0, 0\]"):
        decoder(**batch, visual=visual)
    batch = inputs(decoder, MARKED, visual, TARGETS)
    with pytest.raises(ShapeError, match=r"0 visual tokens a sample, but the texts have \[5, 5\]"):
        decoder(**batch)
    batch["input_ids"][1, -1] = decoder.placeholder_id
    with pytest.raises(ShapeError, match=r"\[5, 6\]"):
        decoder(**batch, visual=visual)
    with pytest.raises(ConfigError, match="ordinary text"):
        make_decoder(visual_placeholder="a")


@torch.no_grad()
def test_without_visual_context_it_is_the_plain_language_model(make_pair):
    graft, plain = make_pair()
    batch = graft.encode(MARKED, TARGETS).inputs()
    expected = plain.encode(MARKED, TARGETS).inputs()
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(graft(**batch).loss, plain(**expected).loss)


def test_layout_and_filling():
    layout = placeholder_layout(torch.tensor([[9, 5, 9], [5, 9, 9]]), 9, 2)
    text, visual = torch.zeros(2, 3, 1), torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    assert layout.merge(visual, text).squeeze(-1).tolist() == [[1, 0, 2], [0, 3, 4]]
    assert layout.spread(torch.tensor([[1, 2, 3], [4, 5, 6]]), -100).tolist() == [[-100, 2, -100], [4, -100, -100]]
    assert fill_placeholders(["a <visual> b", "c", "<v><v>"], "<v>", 2) == ["a <v><v> b", "<v><v>c", "<v><v>"]
    assert fill_placeholders(["a <visual> b"], "<v>", 0) == ["a  b"]
    assert VisualContext().num_tokens == 0
