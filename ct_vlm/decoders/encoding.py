"""Prompts and reports to padded token ids, with the place of the visual tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

VISUAL_MARKER = "<visual>"
"""Where a prompt holds this marker, the visual tokens go there; without it they open the text
(after a begin-of-text token, which pretrained models expect first). The marker itself becomes no
token, so tokens around the image are written out: ``<|vision_start|><visual><|vision_end|>``."""

TEXT_MARKER = "<text>"
"""Where a prompt holds this marker, the text of the visual context goes there."""

IGNORE_INDEX = -100
"""Label of a position without loss."""


@dataclass
class EncodedText:
    """Padded token ids of a batch.

    Args:
        input_ids: Token ids of prompt and target.
        attention_mask: 1 at tokens, 0 at padding.
        labels: Target ids, -100 at the prompt and at padding; None without targets.
        visual_position: Index of the text token that the visual tokens go before.
        num_cut: Number of targets that were cut to fit.

    Shape:
        - input_ids, attention_mask, labels: ``(B, T)``.
        - visual_position: ``(B,)``.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor | None
    visual_position: Tensor
    num_cut: int = 0

    def to(self, device: torch.device | str) -> EncodedText:
        """Return the same batch on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        position = self.visual_position.to(device)
        return EncodedText(self.input_ids.to(device), self.attention_mask.to(device), labels, position, self.num_cut)

    def inputs(self) -> dict[str, Tensor | None]:
        """Return the keyword arguments of a decoder's ``forward``."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "labels": self.labels,
            "visual_position": self.visual_position,
        }


def splice_text(prompts: Sequence[str], texts: Sequence[str] | None) -> list[str]:
    r"""Put the text of a visual context into prompts.

    A text replaces the prompt's ``<text>`` marker. Without a marker it becomes a line of its own
    before the prompt, after a ``<visual>`` marker that opens it. Markers inside a text are dropped:
    only a prompt places visual tokens.

    Args:
        prompts: One instruction a sample.
        texts: One text a sample, or None.

    Raises:
        ShapeError: If the numbers of prompts and texts differ.

    Example:
        >>> from ct_vlm.decoders.encoding import splice_text
        >>> splice_text(["<visual>Report:"], ["Age 61."])
        ['<visual>Age 61.\nReport:']
    """
    if texts is None:
        return [prompt.replace(TEXT_MARKER, "") for prompt in prompts]
    if len(texts) != len(prompts):
        cause = f"Expected one visual text a prompt, but got {len(texts)} texts and {len(prompts)} prompts."
        raise ShapeError(cause, "Give every sample of the batch a text.")
    return [_splice_one(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]


def encode_batch(
    tokenizer: Any,
    prompts: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    loss_on: Literal["target", "all"] = "target",
    max_length: int | None = None,
    padding_side: Literal["left", "right"] = "right",
) -> EncodedText:
    """Tokenize and pad a batch.

    Prompt and target are tokenized apart, so that the ids of a prompt are the same in training and
    in generation. Every target ends with the end-of-text token, unless ``max_length`` cuts it.

    Args:
        tokenizer: A fast tokenizer with an end-of-text token.
        prompts: One instruction a sample, possibly with a ``<visual>`` marker.
        targets: One report a sample, or None to encode prompts alone.
        loss_on: ``"target"`` puts -100 on the prompt; ``"all"`` keeps the loss on the prompt too.
        max_length: Longest text kept, in tokens; the target is cut at its end. A prompt is never cut.
        padding_side: ``"right"`` for training, ``"left"`` for generation.

    Raises:
        ShapeError: If the numbers of prompts and targets differ or a prompt exceeds ``max_length``.
        ConfigError: If the tokenizer has no end-of-text token or a prompt has two markers.
    """
    if targets is not None and len(targets) != len(prompts):
        cause = f"Expected one target a prompt, but got {len(targets)} targets and {len(prompts)} prompts."
        raise ShapeError(cause, "Pass lists of the same length.")
    if len(prompts) == 0:
        cause = "Expected at least one prompt, but got an empty list."
        raise ShapeError(cause, "Pass one prompt a sample.")
    encoded = [_prompt_ids(tokenizer, prompt) for prompt in prompts]
    endings = [[] for _ in prompts] if targets is None else _target_ids(tokenizer, targets)
    _check_prompts([ids for ids, _ in encoded], max_length)
    rows = [(ids + ending)[:max_length] for (ids, _), ending in zip(encoded, endings, strict=True)]
    cut = sum(len(row) < len(ids) + len(end) for row, (ids, _), end in zip(rows, encoded, endings, strict=True))
    width = max(1, *(len(row) for row in rows))
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    shifts = [width - len(row) if padding_side == "left" else 0 for row in rows]
    labels = None
    if targets is not None:
        skipped = [0 if loss_on == "all" else len(ids) for ids, _ in encoded]
        label_rows = [[IGNORE_INDEX] * n + row[n:] for n, row in zip(skipped, rows, strict=True)]
        labels = _pad(label_rows, width, IGNORE_INDEX, shifts)
    return EncodedText(
        input_ids=_pad(rows, width, pad_id, shifts),
        attention_mask=_pad([[1] * len(row) for row in rows], width, 0, shifts),
        labels=labels,
        visual_position=torch.tensor([shift + at for shift, (_, at) in zip(shifts, encoded, strict=True)]),
        num_cut=cut,
    )


def _splice_one(prompt: str, text: str) -> str:
    """Put one text into one prompt."""
    text = text.replace(VISUAL_MARKER, "")
    if TEXT_MARKER in prompt:
        return prompt.replace(TEXT_MARKER, text)
    if prompt.startswith(VISUAL_MARKER):
        return f"{VISUAL_MARKER}{text}\n{prompt.removeprefix(VISUAL_MARKER)}"
    return f"{text}\n{prompt}"


def _prompt_ids(tokenizer: Any, prompt: str) -> tuple[list[int], int]:
    """Return the ids of a prompt and the index the visual tokens go before."""
    before, marker, after = prompt.partition(VISUAL_MARKER)
    if VISUAL_MARKER in after:
        cause = f"A prompt holds `{VISUAL_MARKER}` twice: {prompt[:80]!r}."
        raise ConfigError(cause, "Keep one marker; the visual tokens of all connectors go there together.")
    start = [tokenizer.bos_token_id] if _adds_bos(tokenizer, prompt) else []
    if not marker:
        return start + _ids(tokenizer, before), len(start)
    head = start + _ids(tokenizer, before)
    return head + _ids(tokenizer, after), len(head)


def _target_ids(tokenizer: Any, targets: Sequence[str]) -> list[list[int]]:
    """Return the ids of every target, with the end-of-text token."""
    if tokenizer.eos_token_id is None:
        cause = "The tokenizer has no end-of-text token, so a decoder could not learn where a report ends."
        raise ConfigError(cause, "Set `tokenizer.eos_token`.")
    return [[*_ids(tokenizer, target), tokenizer.eos_token_id] for target in targets]


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Tokenize without the special tokens that a template would add."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _adds_bos(tokenizer: Any, prompt: str) -> bool:
    """Tell whether the tokenizer's own template opens a text with a begin-of-text token."""
    if tokenizer.bos_token_id is None or prompt.startswith(tokenizer.bos_token):
        return False
    return list(tokenizer("")["input_ids"])[:1] == [tokenizer.bos_token_id]


def _check_prompts(prompts: Sequence[Sequence[int]], max_length: int | None) -> None:
    """Refuse a prompt that leaves no room for a target."""
    longest = max(len(ids) for ids in prompts)
    if max_length is not None and longest >= max_length:
        cause = f"A prompt has {longest} tokens, but `max_length` is {max_length}."
        raise ShapeError(cause, "Shorten the prompt or raise `max_length`.")


def _pad(rows: Sequence[Sequence[int]], width: int, value: int, shifts: Sequence[int]) -> Tensor:
    """Return rows as one tensor, each shifted to the right by its own number of positions."""
    padded = [[value] * s + list(row) + [value] * (width - s - len(row)) for row, s in zip(rows, shifts, strict=True)]
    return torch.tensor(padded, dtype=torch.long)
