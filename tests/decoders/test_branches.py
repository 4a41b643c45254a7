"""Texts that share one prompt have the log-probabilities and the gradients that they have alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.decoders import CausalLMDecoder, Decoder
from ct_vlm.decoders.branch_trial import packs_exactly
from ct_vlm.decoders.branches import log_probs_packed
from ct_vlm.errors import ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.modules import CrossAttentionAdapters

if TYPE_CHECKING:
    from ct_vlm.component import Component

PROMPTS = ["Report:", "The heart is enlarged. <visual>List the findings of the lungs:"]
BRANCHES = [
    ["A solid nodule lies in the right upper lobe.", "A small effusion."],
    ["No effusion.", "The lungs are clear. No pleural effusion is seen."],
]
OPTIONS = {
    "plain": {},
    "hybrid": {"hybrid_mask": True},
    "eager": {"hybrid_mask": True, "attn_implementation": "eager"},
    "placeholders": {"visual_placeholder": "<|visual_region|>", "hybrid_mask": True},
    "lora": {"lora": {"r": 2, "init_lora_weights": False}},
    "checkpointing": {"gradient_checkpointing": True, "lora": {"r": 2, "init_lora_weights": False}},
}


def by_logits(decoder, prompts, branches, visual):
    """Sums of the targets' log-probabilities in one pass a text, from all logits of the vocabulary."""
    sums = []
    for row, texts in enumerate(branches):
        for text in texts:
            own = None if visual is None else visual.select([row])
            encoded = decoder.encode([prompts[row]], [text], own)
            inputs = encoded.inputs()
            labels = inputs.pop("labels")
            logits = decoder(**inputs, visual=own).logits[:, :-1]
            picked = logits.log_softmax(-1).gather(2, encoded.input_ids[:, 1:, None]).squeeze(2)
            sums.append(picked[labels[:, 1:] != -100].sum())
    return torch.stack(sums).view(len(prompts), -1)


def gradients(decoder, visual, values):
    leaves = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    if visual is not None:
        leaves |= {"tokens": visual.tokens} | {f"state {k}": v for k, v in visual.layer_states.items()}
    # weights of either sign, as the loss of preferences has them
    weights = torch.tensor([[1.0, -2.0], [0.5, -0.25]], dtype=values.dtype)
    found = torch.autograd.grad((values * weights).sum(), list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def check_gradients(found, expected, tolerance=1e-5):
    """Compare within a share of each tensor's largest gradient.

    Norms, rotations and eager attention of these models work in single precision whatever their type.
    """
    for name, one in found.items():
        limit = tolerance * float(expected[name].abs().max())
        torch.testing.assert_close(
            one, expected[name], rtol=0, atol=limit, msg=lambda text, name=name: f"{name}: {text}"
        )


def with_gradients(visual, dtype=torch.float64):
    states = {layer: x.to(dtype).requires_grad_() for layer, x in visual.layer_states.items()}
    return VisualContext(visual.tokens.to(dtype).requires_grad_(), states)


@pytest.mark.parametrize("option", list(OPTIONS))
def test_one_pass_equals_a_pass_for_each_text(option, make_decoder, make_visual) -> None:
    decoder = make_decoder(**OPTIONS[option]).double().train(option == "checkpointing")
    visual = with_gradients(make_visual())
    found = [decoder.branch_log_probs(PROMPTS, BRANCHES, visual, shared=shared) for shared in (True, False)]
    assert decoder.lm.visual_settings.packs
    tolerance = 1e-6 if option == "eager" else 1e-12
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs, rtol=tolerance, atol=0)
    expected = by_logits(decoder, PROMPTS, BRANCHES, visual)
    torch.testing.assert_close(found[0].log_probs, expected, rtol=max(tolerance, 1e-9), atol=0)
    assert found[0].num_tokens.equal(found[1].num_tokens)
    one, other = (gradients(decoder, visual, item.log_probs) for item in found)
    assert one["tokens"].abs().max() > 0
    check_gradients(one, other)


def test_every_family_shares_its_prompt(family, make_decoder, make_visual) -> None:
    decoder = make_decoder(family, hybrid_mask=True).double()
    visual = with_gradients(make_visual())
    packed = log_probs_packed(decoder, PROMPTS, BRANCHES, visual)
    apart = decoder.branch_log_probs(PROMPTS, BRANCHES, visual, shared=False)
    torch.testing.assert_close(packed.log_probs, apart.log_probs, rtol=1e-12, atol=1e-12)
    one, other = (gradients(decoder, visual, item.log_probs) for item in (packed, apart))
    # these two compute in double precision throughout
    check_gradients(one, other, 1e-11 if family in {"gpt2", "gpt_neox"} else 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_other_precisions_agree_to_their_rounding(dtype, tolerance, make_decoder, make_visual) -> None:
    decoder = make_decoder().to(dtype)
    visual = with_gradients(make_visual(), dtype)
    found = [decoder.branch_log_probs(PROMPTS, BRANCHES, visual, shared=shared) for shared in (True, False)]
    assert decoder.lm.visual_settings.packs
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs, rtol=tolerance, atol=0)
    one, other = (gradients(decoder, visual, item.log_probs)["tokens"].float() for item in found)
    torch.testing.assert_close(one, other, rtol=0, atol=2 * tolerance * float(other.abs().max()))


def test_text_without_visual_context(make_decoder) -> None:
    decoder = make_decoder().double()
    found = decoder.branch_log_probs(PROMPTS, BRANCHES)
    prompts = [prompt.replace("<visual>", "") for prompt in PROMPTS]
    torch.testing.assert_close(found.log_probs, by_logits(decoder, prompts, BRANCHES, None), rtol=1e-9, atol=0)


def test_an_empty_prompt_after_the_visual_tokens(make_decoder, make_visual) -> None:
    decoder = make_decoder().double()
    visual = with_gradients(make_visual())
    found = [decoder.branch_log_probs(["", "Report:<visual>"], BRANCHES, visual, shared=s) for s in (True, False)]
    # the last visual token predicts the first word
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs, rtol=1e-12, atol=1e-12)
    alone = [decoder.branch_log_probs(["", ""], BRANCHES, shared=shared) for shared in (True, False)]
    torch.testing.assert_close(alone[0].log_probs, alone[1].log_probs, rtol=1e-12, atol=1e-12)


def test_memory_of_cross_attention_reaches_every_branch(make_decoder) -> None:
    decoder = make_decoder(cross_attention=CrossAttentionAdapters(32, [0, 2], 4, gate_init=0.5)).double()
    draw = torch.Generator().manual_seed(0)
    memory = torch.randn(2, 6, 32, generator=draw, dtype=torch.float64)
    found = [
        decoder.branch_log_probs(PROMPTS, BRANCHES, VisualContext(memory=memory * scale), shared=shared).log_probs
        for scale, shared in ((1, True), (1, False), (0, True))
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
    assert ((found[0] - found[2]).abs() > 1e-6).all()


def test_zeroed_visual_tokens_change_every_branch(make_decoder, make_visual) -> None:
    decoder = make_decoder().double()
    visual = with_gradients(make_visual(layers=()))
    blank = VisualContext(torch.zeros_like(visual.tokens))
    found = [decoder.branch_log_probs(PROMPTS, BRANCHES, item).log_probs for item in (visual, blank)]
    assert ((found[0] - found[1]).abs() > 1e-3).all()


def test_texts_are_cut_as_in_training(make_decoder, make_visual) -> None:
    decoder = make_decoder().double()
    visual = with_gradients(make_visual())
    limit = max(len(ids) for ids in decoder.tokenizer(PROMPTS)["input_ids"]) + 4
    found = [
        decoder.branch_log_probs(PROMPTS, BRANCHES, visual, max_length=limit, shared=shared) for shared in (True, False)
    ]
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs, rtol=1e-12, atol=1e-12)
    assert found[0].num_cut == found[1].num_cut > 0
    assert found[0].num_tokens.equal(found[1].num_tokens)


@pytest.mark.parametrize("shared", [True, False])
def test_texts_that_go_on_leave_their_end_out(shared, make_decoder, make_visual) -> None:
    decoder = make_decoder().double()
    visual = with_gradients(make_visual())
    whole, begun = (
        decoder.branch_log_probs(PROMPTS, BRANCHES, visual, ends=ends, shared=shared) for ends in (True, False)
    )
    assert (whole.num_tokens - begun.num_tokens).eq(1).all()
    assert (begun.log_probs > whole.log_probs).all()
    foreign = BranchTestForeignDecoder(decoder).branch_log_probs(PROMPTS, BRANCHES, visual, ends=False)
    torch.testing.assert_close(foreign.log_probs, begun.log_probs, rtol=1e-6, atol=0)
    # the end alone, as a text of its own behind the first
    first = [[text + decoder.tokenizer.eos_token for text in texts] for texts in BRANCHES]
    longer = decoder.branch_log_probs(PROMPTS, first, visual, ends=False, shared=shared)
    torch.testing.assert_close(longer.log_probs, whole.log_probs, rtol=1e-12, atol=0)


def test_the_prompt_goes_through_the_model_once(make_decoder, make_visual) -> None:
    decoder = make_decoder()
    lengths = []
    decoder.lm.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    packs_exactly(decoder.lm)
    lengths.clear()
    visual = make_visual(tokens=40)
    decoder.branch_log_probs(PROMPTS, BRANCHES, visual)
    assert len(lengths) == 1
    decoder.branch_log_probs(PROMPTS, BRANCHES, visual, shared=False)
    # two passes, each with prompt and visual tokens of its own
    assert sum(length for _, length in lengths[1:]) - lengths[0][1] >= 40


@pytest.mark.parametrize(
    "model",
    [
        {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
        {"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3},
    ],
    ids=lambda model: model["model_type"],
)
def test_models_that_cannot_read_texts_side_by_side_read_them_apart(model, make_decoder) -> None:
    decoder = make_decoder(model=model).double()
    found = decoder.branch_log_probs(PROMPTS, BRANCHES)
    assert decoder.lm.visual_settings.packs is False
    prompts = [prompt.replace("<visual>", "") for prompt in PROMPTS]
    expected = by_logits(decoder, prompts, BRANCHES, None)
    # Mamba's logits are of single precision
    torch.testing.assert_close(found.log_probs, expected, rtol=1e-6, atol=0, check_dtype=False)


def test_a_window_shorter_than_the_sequence_is_respected(make_decoder) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 8, "initializer_range": 0.3, **sizes}
    decoder = make_decoder(model=model).double()
    assert log_probs_packed(decoder, PROMPTS, BRANCHES, None) is None
    found = decoder.branch_log_probs(PROMPTS, BRANCHES)
    prompts = [prompt.replace("<visual>", "") for prompt in PROMPTS]
    torch.testing.assert_close(found.log_probs, by_logits(decoder, prompts, BRANCHES, None), rtol=1e-9, atol=0)


class BranchTestForeignDecoder(Decoder):
    """A decoder of one's own that knows nothing of branches."""

    def __init__(self, inner: Component) -> None:
        super().__init__()
        self.inner, self.embed_dim, self.num_layers = inner, inner.embed_dim, inner.num_layers
        self.tokenizer = inner.tokenizer

    def encode(self, prompts, targets=None, visual=None, **options):
        return self.inner.encode(prompts, targets, visual, **options)

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)

    def generate(self, prompts, visual=None, *, max_new_tokens=256, **options):
        return self.inner.generate(prompts, visual, max_new_tokens=max_new_tokens, **options)


def test_a_foreign_decoder_gives_the_same_from_its_loss_alone(make_decoder, make_visual) -> None:
    decoder = make_decoder().double()
    visual = with_gradients(make_visual())
    ours = decoder.branch_log_probs(PROMPTS, BRANCHES, visual)
    theirs = BranchTestForeignDecoder(decoder).branch_log_probs(PROMPTS, BRANCHES, visual)
    # the loss is taken in single precision
    torch.testing.assert_close(theirs.log_probs, ours.log_probs, rtol=1e-6, atol=0)
    assert theirs.num_tokens.equal(ours.num_tokens)
    one, other = (gradients(decoder, visual, item.log_probs) for item in (ours, theirs))
    check_gradients(one, other)


@pytest.mark.parametrize("branches", [[["a", "b"]], [["a", "b"], ["c"]], [[], []]])
def test_numbers_of_texts_have_to_agree(branches, make_decoder) -> None:
    with pytest.raises(ShapeError, match="equally many texts"):
        make_decoder().branch_log_probs(PROMPTS, branches)


def test_a_sequence_too_long_is_refused(make_decoder, make_visual) -> None:
    decoder = make_decoder("gpt2")
    with pytest.raises(ShapeError, match="positions"):
        decoder.branch_log_probs(PROMPTS, BRANCHES, make_visual(tokens=245, layers=()))
    assert isinstance(decoder, CausalLMDecoder)
