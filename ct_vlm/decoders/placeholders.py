"""Visual tokens in the place of placeholder tokens of the prompt, as chat templates write them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.decoders.encoding import VISUAL_MARKER
from ct_vlm.decoders.sequence import Layout
from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def with_placeholder(tokenizer: Any, placeholder: str) -> Any:
    """Return a tokenizer that knows a placeholder as one special token.

    Args:
        tokenizer: A fast tokenizer; it is left as it is.
        placeholder: The token, e.g. ``<|visual_region|>``; one that the tokenizer has is used as it is.

    Raises:
        ConfigError: If the tokenizer has it as a token that text may hold.

    Example:
        >>> from ct_vlm.decoders import train_bpe_tokenizer
        >>> from ct_vlm.decoders.placeholders import with_placeholder
        >>> first = train_bpe_tokenizer(["clear lungs"], 270)
        >>> second = with_placeholder(first, "<|visual_region|>")
        >>> len(second) - len(first), len(second("<|visual_region|>" * 3, add_special_tokens=False)["input_ids"])
        (1, 3)
    """
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(tokenizer)
    if placeholder not in tokenizer.get_vocab():
        # before a normalisation of the text, which may take the token apart
        tokenizer.add_tokens([AddedToken(placeholder, special=True, normalized=False)], special_tokens=True)
    added = tokenizer.added_tokens_decoder.get(tokenizer.convert_tokens_to_ids(placeholder))
    if added is None or not added.special:
        cause = f"`{placeholder}` is a token of ordinary text in this tokenizer."
        raise ConfigError(cause, "Name a special token, or a new one such as '<|visual_region|>'.")
    return tokenizer


def tokenizer_and_placeholder(tokenizer: Any, placeholder: str | None) -> tuple[Any, int | None]:
    """Return the tokenizer of a decoder and the id of its placeholder, None without one.

    Args:
        tokenizer: A fast tokenizer; it is left as it is.
        placeholder: The token, or None.
    """
    if placeholder is None:
        return tokenizer, None
    tokenizer = with_placeholder(tokenizer, placeholder)
    return tokenizer, int(tokenizer.convert_tokens_to_ids(placeholder))


def fill_placeholders(prompts: Sequence[str], placeholder: str, count: int) -> list[str]:
    """Write one placeholder a visual token into prompts that do not hold them yet.

    They stand where the ``<visual>`` marker stands, else before the text.

    Args:
        prompts: One instruction a sample.
        placeholder: The token.
        count: Number of visual tokens; 0 only drops the marker.

    Raises:
        ConfigError: If a prompt holds the marker and placeholders, or the marker twice.
        ShapeError: If a prompt holds another number of placeholders.

    Example:
        >>> from ct_vlm.decoders.placeholders import fill_placeholders
        >>> fill_placeholders(["Scan: <visual> Report:", "Report:"], "<v>", 2)
        ['Scan: <v><v> Report:', '<v><v>Report:']
    """
    return [_fill_one(prompt, placeholder, count) for prompt in prompts]


def placeholder_layout(ids: Tensor, placeholder_id: int, count: int) -> Layout:
    """Lay out visual tokens at the placeholders among token ids, in order.

    It waits for the device once, to count them: a token in a wrong place would go unnoticed.

    Args:
        ids: Token ids.
        placeholder_id: Id of the placeholder.
        count: Number of visual tokens of each sample.

    Shape:
        - ids: ``(B, T)``.

    Raises:
        ShapeError: If a sample has another number of placeholders.

    Example:
        >>> import torch
        >>> from ct_vlm.decoders.placeholders import placeholder_layout
        >>> layout = placeholder_layout(torch.tensor([[5, 9, 6, 9]]), placeholder_id=9, count=2)
        >>> layout.merge(torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 4, 1)).flatten().tolist()
        [0.0, 1.0, 0.0, 2.0]
    """
    visual_mask = ids == placeholder_id
    found = visual_mask.sum(dim=1).tolist()
    if any(number != count for number in found):
        cause = f"There are {count} visual tokens a sample, but the texts have {found} placeholders."
        raise ShapeError(cause, "Pass the visual context to `encode`, or write one placeholder a token.")
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    source = torch.where(visual_mask, visual_mask.long().cumsum(dim=1) - 1, place)
    return Layout(visual_mask, source, place)


def _fill_one(prompt: str, placeholder: str, count: int) -> str:
    """Return one prompt with its placeholders."""
    own, markers = prompt.count(placeholder), prompt.count(VISUAL_MARKER)
    if (own and markers) or markers > 1:
        cause = f"A prompt holds `{VISUAL_MARKER}` {markers} times and `{placeholder}` {own} times: {prompt[:80]!r}."
        raise ConfigError(cause, "Keep one marker, or the placeholders.")
    if own:
        if own != count:
            cause = f"A prompt holds {own} times `{placeholder}`, but there are {count} visual tokens."
            raise ShapeError(cause, f"Write `{VISUAL_MARKER}` in their place, which becomes as many as needed.")
        return prompt
    filled = placeholder * count
    return prompt.replace(VISUAL_MARKER, filled) if markers else filled + prompt
