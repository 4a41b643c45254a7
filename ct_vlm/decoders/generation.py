"""Decoding options as a transformers generation config, and a reproducible, side-effect-free run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn


def generation_config(stop: Sequence[int], pad: int, *, max_new_tokens: int, temperature: float, **options: Any) -> Any:
    """Build the decoding settings of one call; a temperature of 0 means greedy decoding.

    Args:
        stop: Ids that end a text.
        pad: Id that fills texts that have ended.
        max_new_tokens: Upper bound of the number of new tokens.
        temperature: Divides the logits before sampling.
        options: ``do_sample``, ``num_beams``, ``top_p``, ``top_k`` and further settings of
            ``transformers.GenerationConfig``.

    Raises:
        ConfigError: If a value is out of range, or the cache is switched off.
    """
    from transformers import GenerationConfig

    if not options.pop("use_cache", True):
        msg = "`use_cache=False` has no effect: transformers keeps a cache wherever a prompt is given as embeddings."
        raise ConfigError(msg, "Leave it out.")
    if max_new_tokens < 1 or options.get("num_beams", 1) < 1 or temperature < 0:
        cause = (
            f"Expected max_new_tokens >= 1, num_beams >= 1 and temperature >= 0, but got {max_new_tokens}, "
            f"{options.get('num_beams', 1)} and {temperature}."
        )
        raise ConfigError(cause, "Use temperature=0 or do_sample=False for greedy decoding.")
    samples = options.pop("do_sample", False) and temperature > 0
    top_p, top_k = options.pop("top_p", 1.0), options.pop("top_k", 0)
    if samples:
        options.update(temperature=temperature, top_p=top_p, top_k=top_k)
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=samples,
        eos_token_id=list(stop) or None,
        pad_token_id=pad,
        bos_token_id=None,
        **options,
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode and give every submodule its own mode back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Seed the random numbers of a block and restore them after it; None changes nothing."""
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
