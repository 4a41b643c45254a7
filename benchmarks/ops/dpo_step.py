"""One step of preference training (DPO) behind 1,024 visual tokens, beside the textbook's two models.

The textbook keeps a second model for the reference and runs four passes, each over prompt and visual
tokens, with the logits of all rows. Its copy is made within the call, as memory is counted from the
call on; that is a small part of its time. All providers compute the same loss: LoRA adapters have
random weights, and the reference is the model without them.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.decoders.adapters import adapters_off
from ct_vlm.decoders.encoding import IGNORE_INDEX
from ct_vlm.features import VisualContext
from ct_vlm.losses import dpo_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PROMPT = "List the abnormalities by region, then write the full report."
_LETTERS = "abcdefghijklmnopqrstuvwxyz "


def _case(name: str, visual: int, text: int = 96, vocabulary: int = 16_000) -> dict[str, Any]:
    # few layers, but wide ones: as in large models, most of the work is in the weights and not in the scores
    return {"name": name, "visual": visual, "text": text, "vocabulary": vocabulary, "dim": 512, "layers": 2}


CASES: list[dict[str, Any]] = [
    _case("v1024_t96", 1024),
    _case("v256_t96", 256),
]
TESTS = "tests/decoders/test_branches.py"
REFERENCE = "two models, four passes"
BASELINE = "two models, four passes"
GRADIENTS: tuple[str, ...] = ("tokens",)


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return a decoder with LoRA, visual tokens and a pair of texts; the same numbers in every dtype."""
    config = {
        "model_type": "llama",
        "hidden_size": case["dim"],
        "intermediate_size": 3 * case["dim"],
        "num_hidden_layers": case["layers"],
        "num_attention_heads": 8,
        "vocab_size": case["vocabulary"],
        "initializer_range": 0.05,
    }
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = train_bpe_tokenizer([PROMPT], 270)
        decoder = CausalLMDecoder(config, tokenizer, lora={"r": 16, "init_lora_weights": False})
    tokens = torch.randn(1, case["visual"], case["dim"], generator=draw)
    # a letter is a token or part of one: both texts have about as many tokens
    picks = torch.randint(len(_LETTERS), (2, case["text"]), generator=draw).tolist()
    pair = ["".join(_LETTERS[i] for i in row) for row in picks]
    decoder = decoder.to(device, dtype)
    inputs = {"decoder": decoder, "tokens": tokens.to(device, dtype), "pair": pair}
    with torch.no_grad(), adapters_off(decoder):
        inputs["stored"] = {"reference": _branches(inputs, shared=True)[0]}
    return inputs


def _branches(inputs: dict[str, Any], *, shared: bool) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of both texts and their numbers of tokens."""
    visual = VisualContext(inputs["tokens"])
    found = inputs["decoder"].branch_log_probs([PROMPT], [inputs["pair"]], visual, shared=shared)
    return found.log_probs, found.num_tokens


def _all_logits(decoder: CausalLMDecoder, inputs: dict[str, Any]) -> Tensor:
    """Return log-probabilities of both texts as textbooks do: a pass each, logits of all rows, visual ones included."""
    sums = []
    for text in inputs["pair"]:
        encoded = decoder.encode([PROMPT], [text]).to(inputs["tokens"].device)
        visual, labels = VisualContext(inputs["tokens"]), encoded.labels
        layout, arguments = decoder._inputs(encoded.input_ids, visual, encoded.attention_mask, encoded.visual_position)
        logits = decoder.lm(**arguments, use_cache=False).logits[:, :-1]
        logits = logits.float() if logits.itemsize < 4 else logits
        targets = layout.spread(labels, IGNORE_INDEX)[:, 1:]
        picked = logits.log_softmax(-1).gather(2, targets.clamp(min=0)[..., None]).squeeze(2)
        sums.append((picked * (targets >= 0)).sum(1))
    return torch.stack(sums, 1)


def _textbook(inputs: dict[str, Any]) -> Tensor:
    """Run policy and reference, two models, twice each."""
    reference_model = copy.deepcopy(inputs["decoder"])
    with torch.no_grad(), adapters_off(reference_model):
        reference = _all_logits(reference_model, inputs)
    return dpo_loss(_all_logits(inputs["decoder"], inputs), reference).loss


def _ours(inputs: dict[str, Any], *, shared: bool = True, stored: bool = False) -> Tensor:
    """Run one model; its reference is itself without adapters, or known already."""
    if stored:
        reference = inputs["stored"]["reference"]
    else:
        with torch.no_grad(), adapters_off(inputs["decoder"]):
            reference = _branches(inputs, shared=shared)[0]
    return dpo_loss(_branches(inputs, shared=shared)[0], reference).loss


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    BASELINE: _textbook,
    "ct_vlm, four passes": lambda inputs: _ours(inputs, shared=False),
    "ct_vlm": _ours,
    "ct_vlm, stored reference": lambda inputs: _ours(inputs, stored=True),
}


def shrink(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case of which the reference's logits in float64 are small."""
    return {**case, "vocabulary": 512, "visual": 64}


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the operations of one pass over prompt and both texts, with and without adapters, and its weights."""
    body, head = 13 * case["dim"] ** 2 * case["layers"], case["dim"] * case["vocabulary"]
    rows = case["visual"] + 2 * case["text"]
    scores = 2 * case["layers"] * case["dim"] * rows * rows
    passes = 2 * (2 * rows * body + 2 * 2 * case["text"] * head + scores)
    return {"flops": passes, "bytes": 2 * (body + head) * dtype.itemsize}
