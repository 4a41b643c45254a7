"""Writing 256 tokens with U-VLM's decoder after 384 visual tokens: cached, and by computing everything again.

Weights are random, and no token ends a text. The wide initialisation keeps the two likeliest tokens
apart, so that all providers write the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.decoders.generation import generation_config
from ct_vlm.features import VisualContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PROMPT = "Write the report of this chest CT."


def _case(name: str, vocabulary: int, new_tokens: int, visual: int = 384) -> dict[str, Any]:
    sizes = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8}
    return {"name": name, "vocabulary": vocabulary, "new_tokens": new_tokens, "visual": visual, **sizes}


CASES: list[dict[str, Any]] = [
    _case("v8192_n256", 8192, 256),
    _case("v8192_n16", 8192, 16),
]
TESTS = "tests/decoders/test_generation.py"
REFERENCE = "ct_vlm"
BASELINE = "full recomputation"
GRADIENTS: tuple[str, ...] = ()


def make_inputs(case: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the decoder's language model and its inputs; the same numbers in every dtype."""
    config = {name: case[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    config |= {"model_type": "ct_vlm_report_decoder", "vocab_size": case["vocabulary"], "initializer_range": 0.06}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = CausalLMDecoder(config, train_bpe_tokenizer([PROMPT], 270), hybrid_mask=True, stop_token_ids=[])
        tokens = torch.randn(1, case["visual"], 512)
        states = {layer: torch.randn(1, case["visual"], 512) for layer in range(4)}
    decoder = decoder.to(device, dtype).eval()
    visual = VisualContext(tokens.to(device, dtype), {k: v.to(device, dtype) for k, v in states.items()})
    text = decoder.encode([PROMPT], padding_side="left").to(device)
    with torch.no_grad():
        _, inputs = decoder._inputs(text.input_ids, visual, text.attention_mask, text.visual_position)
    inputs.pop("position_ids")
    return {"lm": decoder.lm, "inputs": inputs, "new_tokens": case["new_tokens"]}


@torch.no_grad()
def _cached(inputs: dict[str, Any]) -> Tensor:
    """Return the new ids, as floating-point numbers so that they can be compared."""
    config = generation_config([], 0, max_new_tokens=inputs["new_tokens"], temperature=0.0)
    ids: Tensor = inputs["lm"].generate(**inputs["inputs"], generation_config=config)
    return ids.to(inputs["lm"].dtype)


@torch.no_grad()
def _recomputed(inputs: dict[str, Any], *, rows: int) -> Tensor:
    """Run the whole sequence for every token, as U-VLM's sampler does; 0 rows of logits means all, as there."""
    lm, arguments = inputs["lm"], dict(inputs["inputs"])
    found = []
    for _ in range(inputs["new_tokens"]):
        logits = lm(**arguments, use_cache=False, logits_to_keep=rows).logits
        found.append(logits[:, -1].argmax(-1))
        new = lm.get_input_embeddings()(found[-1])[:, None]
        arguments["inputs_embeds"] = torch.cat([arguments["inputs_embeds"], new], 1)
        mask = arguments["attention_mask"]
        arguments["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return torch.stack(found, 1).to(lm.dtype)


PROVIDERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    BASELINE: lambda inputs: _recomputed(inputs, rows=0),
    "full recomputation, last row of logits": lambda inputs: _recomputed(inputs, rows=1),
    "ct_vlm": _cached,
}


def floor(case: dict[str, Any], dtype: torch.dtype) -> dict[str, int]:
    """Return the least operations, and the bytes of weights that every step has to read."""
    width, layers = case["hidden_size"], case["num_hidden_layers"]
    body, head = 12 * width * width * layers, width * case["vocabulary"]
    rows = case["visual"] + case["new_tokens"]
    flops = 2 * rows * body + 2 * case["new_tokens"] * head + 2 * layers * width * rows * rows
    return {"flops": flops, "bytes": case["new_tokens"] * (body + head) * dtype.itemsize}
