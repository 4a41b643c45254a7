"""Several texts behind one prompt: the log-probability of each, with the prompt and its visual tokens read once.

The texts are laid out one after another behind the prompt. None of them sees another, and positions
count on from the prompt in each, so every text has the log-probability it has alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.decoders.branch_trial import packs_exactly
from ct_vlm.decoders.encoding import IGNORE_INDEX
from ct_vlm.decoders.head import target_loss
from ct_vlm.decoders.masks import as_additive, hybrid_attention_mask
from ct_vlm.decoders.sequence import label_rows
from ct_vlm.decoders.validation import check_length, check_text
from ct_vlm.decoders.visual_lm import takes_mask
from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.decoders.base import Decoder
    from ct_vlm.decoders.causal_lm import CausalLMDecoder
    from ct_vlm.decoders.encoding import EncodedText
    from ct_vlm.features import VisualContext


@dataclass
class BranchLogProbs:
    """Log-probabilities of K texts for each of B prompts.

    Args:
        log_probs: Sum over the tokens of each text.
        num_tokens: How many tokens that are.
        num_cut: Texts that were cut to fit.

    Shape:
        - log_probs, num_tokens: ``(B, K)``.

    Example:
        >>> from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
        >>> config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
        ...           "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> decoder = CausalLMDecoder(config, train_bpe_tokenizer(["clear lungs"], 270))
        >>> found = decoder.branch_log_probs(["Report:"], [["A nodule.", "A mass."]])
        >>> found.log_probs.shape, bool((found.log_probs < 0).all())
        (torch.Size([1, 2]), True)
    """

    log_probs: Tensor
    num_tokens: Tensor
    num_cut: int = 0


def log_probs_by_loss(
    decoder: Decoder,
    prompts: Sequence[str],
    branches: Sequence[Sequence[str]],
    visual: VisualContext | None,
    **options: Any,
) -> BranchLogProbs:
    """Compute log-probabilities with nothing but a decoder's loss: one pass for each text of each prompt.

    Args:
        decoder: Any decoder.
        prompts: One instruction a sample.
        branches: The texts of each sample.
        visual: Visual context of the samples.
        options: ``ends``, and ``max_length`` for :meth:`Decoder.encode`, if there is a limit.
    """
    sums, counts, cut = [], [], 0
    for row, (prompt, texts) in enumerate(zip(prompts, branches, strict=True)):
        own = None if visual is None else visual.select([row])
        for text in texts:
            encoded = _encode(decoder, [prompt], [text], own, **options)
            output = decoder(**encoded.to(next(decoder.parameters()).device).inputs(), visual=own)
            sums.append(-output.loss * output.num_targets)
            counts.append(output.num_targets)
            cut += encoded.num_cut
    shape = (len(prompts), -1)
    return BranchLogProbs(torch.stack(sums).view(shape), torch.stack(counts).view(shape), cut)


def log_probs_apart(
    decoder: CausalLMDecoder,
    prompts: Sequence[str],
    branches: Sequence[Sequence[str]],
    visual: VisualContext | None,
    **options: Any,
) -> BranchLogProbs:
    """Compute log-probabilities in one pass a branch, each with prompt and visual tokens of its own.

    Args:
        decoder: Decoder around a causal LM.
        prompts: One instruction a sample.
        branches: The texts of each sample.
        visual: Visual context of the samples.
        options: ``ends``, and ``max_length`` for ``encode``, if there is a limit.
    """
    sums, counts, cut = [], [], 0
    for texts in zip(*branches, strict=True):
        encoded = _encode(decoder, prompts, texts, visual, **options).to(decoder.lm.device)
        ids, mask = encoded.input_ids, encoded.attention_mask
        labels = torch.full_like(ids, IGNORE_INDEX) if encoded.labels is None else encoded.labels
        check_text(ids, labels, mask)
        layout, inputs = decoder._inputs(ids, visual, mask, encoded.visual_position)
        spread = labels if layout is None else layout.spread(labels, IGNORE_INDEX)
        rows, targets = label_rows(spread)
        wanted = torch.nn.functional.pad(spread[:, 1:], (0, 1), value=IGNORE_INDEX) != IGNORE_INDEX
        sums.append(_sums(decoder.lm, inputs, rows, targets, wanted))
        counts.append(wanted.sum(-1))
        cut += encoded.num_cut
    return BranchLogProbs(torch.stack(sums, 1), torch.stack(counts, 1), cut)


def log_probs_packed(
    decoder: CausalLMDecoder,
    prompts: Sequence[str],
    branches: Sequence[Sequence[str]],
    visual: VisualContext | None,
    **options: Any,
) -> BranchLogProbs | None:
    """Compute log-probabilities of all branches in one pass; None where this decoder cannot.

    Args:
        decoder: Decoder around a causal LM.
        prompts: One instruction a sample.
        branches: The texts of each sample.
        visual: Visual context of the samples.
        options: ``ends``, and ``max_length`` for ``encode``, if there is a limit.
    """
    lm = decoder.lm
    if not packs_exactly(lm):
        return None
    encoded = [_encode(decoder, prompts, texts, visual, **options) for texts in zip(*branches, strict=True)]
    # padding on the left: every branch follows its prompt at once
    prefix = decoder.encode(prompts, visual=visual, padding_side="left")
    texts = _Texts.of(encoded).to(lm.device)
    has_none = not bool(prefix.attention_mask.any(1).all()) and (visual is None or not visual.num_tokens)
    prefix = prefix.to(lm.device)
    layout, inputs = decoder._inputs(prefix.input_ids, visual, prefix.attention_mask, prefix.visual_position)
    start = inputs["inputs_embeds"].shape[1]
    if has_none or not takes_mask(lm, start + texts.ids.shape[1]):
        return None
    check_length(start + texts.width, lm.config.get_text_config())
    visual_mask = None if layout is None or not lm.visual_settings.hybrid_mask else layout.visual_mask
    mask = _mask(inputs["attention_mask"], visual_mask, texts)
    inputs.update(
        inputs_embeds=torch.cat([inputs["inputs_embeds"], lm.get_input_embeddings()(texts.ids)], 1),
        position_ids=_positions(inputs["position_ids"], texts),
        attention_mask=as_additive(mask, lm.dtype) if lm.config._attn_implementation == "eager" else mask,
        visual_length=None,
    )
    rows = _predicting_rows(texts, start)
    sums = _sums(lm, inputs, rows[texts.real], texts.ids[texts.real], texts.real, texts.count)
    counts = texts.real.view(len(prompts), texts.count, -1).sum(-1)
    return BranchLogProbs(sums, counts, sum(one.num_cut for one in encoded))


def check_branches(prompts: Sequence[str], branches: Sequence[Sequence[str]]) -> None:
    """Raise unless every prompt has the same number of texts.

    Args:
        prompts: One instruction a sample.
        branches: The texts of each sample.

    Raises:
        ShapeError: If numbers differ, or there are no texts.
    """
    counts = [len(texts) for texts in branches]
    if len(counts) != len(prompts) or len(set(counts)) != 1 or not counts[0]:
        cause = f"Expected equally many texts for each of {len(prompts)} prompts, but got {counts}."
        raise ShapeError(cause, "Pass e.g. [[chosen, rejected]] for one prompt.")


def _encode(
    decoder: Decoder,
    prompts: Sequence[str],
    texts: Sequence[str],
    visual: VisualContext | None,
    *,
    ends: bool = True,
    **limit: Any,
) -> EncodedText:
    """Encode texts; the end-of-text token of a text that goes on has no label."""
    encoded = decoder.encode(prompts, texts, visual, **limit)
    labels, end = encoded.labels, decoder.tokenizer.eos_token_id
    if ends or labels is None:
        return encoded
    place = torch.arange(labels.shape[1]).where(labels != IGNORE_INDEX, -1)
    is_last = (place == place.amax(1, keepdim=True)) & (place >= 0)
    return replace(encoded, labels=labels.masked_fill(is_last & (labels == end), IGNORE_INDEX))


@dataclass
class _Texts:
    """K texts of each of B samples, side by side: ``(B, K * T)``, padded on the right of each text."""

    ids: Tensor
    real: Tensor
    count: int

    @property
    def width(self) -> int:
        return self.ids.shape[1] // self.count

    @classmethod
    def of(cls, encoded: Sequence[EncodedText]) -> _Texts:
        """Take the targets out of encoded texts."""
        rows = [
            [ids[labels != IGNORE_INDEX] for ids, labels in zip(one.input_ids, one.labels, strict=True)]
            for one in encoded
            if one.labels is not None
        ]
        width = max(1, *(len(ids) for one in rows for ids in one))
        ids = torch.zeros(len(rows[0]), len(rows), width, dtype=torch.long)
        real = torch.zeros_like(ids, dtype=torch.bool)
        for branch, one in enumerate(rows):
            for row, own in enumerate(one):
                ids[row, branch, : len(own)], real[row, branch, : len(own)] = own, True
        return cls(ids.flatten(1), real.flatten(1), len(rows))

    def to(self, device: torch.device) -> _Texts:
        """Return the same texts on another device."""
        return _Texts(self.ids.to(device), self.real.to(device), self.count)


def _mask(prefix: Tensor, visual_mask: Tensor | None, texts: _Texts) -> Tensor:
    """Return who sees whom, ``(B, 1, S, S)``: a text sees the prompt and what stands before in itself."""
    real = torch.cat([prefix.bool(), texts.real], 1)
    visual = torch.zeros_like(real)
    if visual_mask is not None:
        visual[:, : visual_mask.shape[1]] = visual_mask
    width, device = texts.width, real.device
    own = torch.arange(texts.ids.shape[1], device=device) // width + 1
    owner = torch.cat([torch.zeros(prefix.shape[1], dtype=own.dtype, device=device), own])
    apart = (owner[None] != owner[:, None]) & (owner[None] > 0)
    return hybrid_attention_mask(visual, real) & ~apart


def _positions(prefix: Tensor, texts: _Texts) -> Tensor:
    """Let the positions of each text count on from the prompt's: ``(B, S)``, or ``(3, B, S)``."""
    # the prompt ends in the last column; a film before it may have reached further in time
    place = torch.arange(texts.ids.shape[1], device=prefix.device) % texts.width
    return torch.cat([prefix, prefix[..., -1:] + 1 + place.to(prefix.dtype)], -1)


def _predicting_rows(texts: _Texts, start: int) -> Tensor:
    """Return the flat index of the row that predicts each token of the texts, ``(B, K * T)``."""
    batch, total = texts.ids.shape
    place = torch.arange(total, device=texts.ids.device)
    before = torch.where(place % texts.width == 0, start - 1, start + place - 1)
    return before[None] + torch.arange(batch, device=place.device)[:, None] * (start + total)


def _sums(lm: Any, inputs: dict[str, Any], rows: Tensor, targets: Tensor, wanted: Tensor, count: int = 1) -> Tensor:
    """Return the summed log-probabilities of texts, ``(B,)`` or, for several of them, ``(B, K)``."""
    losses = target_loss(lm, inputs, rows, targets, reduction="none")
    spread = losses.new_zeros(wanted.shape).masked_scatter(wanted, losses)
    return -(spread.sum(-1) if count == 1 else spread.view(len(wanted), count, -1).sum(-1))
