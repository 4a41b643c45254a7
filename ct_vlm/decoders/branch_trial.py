"""Whether a language model can read several texts behind one prompt: tried once, on a few tokens."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.decoders.generation import evaluating
from ct_vlm.decoders.masks import as_additive
from ct_vlm.decoders.visual_lm import takes_mask

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)
_PREFIX, _TEXT = 3, 2
_CLOSE = 0.1
"""Share of the error of texts that see each other that rounding may make; half precision needs the most."""


def packs_exactly(lm: Any) -> bool:
    """Tell whether texts that are masked from each other come out as they do alone.

    They do not where a layer reads no mask or no positions (recurrent layers, positions that attention
    counts itself), and no name or config tells. Hence it is tried: one prompt with two texts of two tokens,
    beside each text alone and beside the same sequence without a mask. The result is kept on the model.

    Args:
        lm: A causal LM prepared by ``make_visual``.
    """
    settings = lm.visual_settings
    if settings.packs is None:
        settings.packs = _try(lm)
        if not settings.packs:
            _log.info("%s reads one text at a time: prompts are not shared.", type(lm).__name__)
    return bool(settings.packs)


@torch.no_grad()
def _try(lm: Any) -> bool:
    total = _PREFIX + 2 * _TEXT
    if "position_ids" not in inspect.signature(lm.forward).parameters or not takes_mask(lm, total):
        return False
    rows = lm.get_input_embeddings().num_embeddings
    ids = torch.arange(total, device=lm.device)[None] * max(1, rows // total) % rows
    places = torch.arange(total, device=lm.device)
    owner = (places >= _PREFIX).long() + (places >= _PREFIX + _TEXT).long()
    keep = (owner[None] == owner[:, None]) | (owner[None] == 0)
    mask = (keep & (places[None] <= places[:, None]))[None, None]
    mask = as_additive(mask, lm.dtype) if lm.config._attn_implementation == "eager" else mask
    second = places >= _PREFIX + _TEXT
    alone = torch.cat([ids[:, :_PREFIX], ids[:, second]], 1)
    with evaluating(lm):
        packed = _logits(lm, ids, places - _TEXT * second, attention_mask=mask)[second]
        expected = _logits(lm, alone, places[: _PREFIX + _TEXT])[_PREFIX:]
        wrong = _logits(lm, ids, places)[second]
    error, scale = (float((one - expected).abs().max()) for one in (packed, wrong))
    return error <= _CLOSE * scale


def _logits(lm: Any, ids: Tensor, places: Tensor, **options: Tensor) -> Tensor:
    """Return the logits of one sequence in single precision, ``(S, V)``."""
    embeds = lm.get_input_embeddings()(ids)
    return lm(inputs_embeds=embeds, position_ids=places[None], use_cache=False, **options).logits[0].float()
