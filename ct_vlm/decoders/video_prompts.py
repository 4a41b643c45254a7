"""Prompts of video language models: a chat template, and one placeholder a visual token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.decoders.encoding import VISUAL_MARKER
from ct_vlm.decoders.placeholders import with_placeholder
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.video_lm.families import VideoFamily

_ROLES = ("<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}VIDEO{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_tokenizer(tokenizer: Any, family: VideoFamily, chat_template: str | None = None) -> Any:
    """Return a tokenizer with a family's special tokens and a chat template that knows videos.

    Args:
        tokenizer: A fast tokenizer; it is left as it is.
        family: Its special tokens are added where they are missing.
        chat_template: A Jinja template in place of the tokenizer's; a tokenizer without one gets a
            plain one with the two roles' tokens.

    Raises:
        ConfigError: If the tokenizer has one of the tokens as a token of ordinary text.

    Example:
        >>> from ct_vlm.decoders import train_bpe_tokenizer
        >>> from ct_vlm.decoders.video_prompts import chat_prompts, chat_tokenizer
        >>> from ct_vlm.video_lm.families import FAMILIES
        >>> family = FAMILIES["qwen2_5_vl"]
        >>> tokenizer = chat_tokenizer(train_bpe_tokenizer(["clear lungs"], 270), family)
        >>> print(chat_prompts(tokenizer, family, ["Findings?"], (1, 1, 2), 1.0)[0].strip())
        <|im_start|>user
        <|vision_start|><|video_pad|><|video_pad|><|vision_end|>Findings?<|im_end|>
        <|im_start|>assistant
    """
    plain = chat_template is None and getattr(tokenizer, "chat_template", None) is None
    for token in (*family.tokens, *(_ROLES if plain else ())):
        tokenizer = with_placeholder(tokenizer, token)
    if plain:
        # the numbered frames of a family stand on lines of their own
        ending = "\n" if family.writing == "numbered" else ""
        chat_template = _CHAT_TEMPLATE.replace("VIDEO", family.chat_video + ending)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def chat_prompts(
    tokenizer: Any,
    family: VideoFamily,
    prompts: Sequence[str],
    grid: tuple[int, int, int] | None,
    seconds_per_grid: float,
) -> list[str]:
    """Put prompts into the tokenizer's chat template, with the video before them or at the marker.

    Args:
        tokenizer: Of :func:`chat_tokenizer`.
        family: Writes the video.
        prompts: One instruction a sample, possibly with a ``<visual>`` marker.
        grid: Time steps, rows and columns of the visual tokens; None without a video.
        seconds_per_grid: Time between two steps.

    Raises:
        ConfigError: If a prompt has two markers, or the template does not write the video once.
    """
    video = None if grid is None else family.write_video(grid, seconds_per_grid)
    return [_one_prompt(tokenizer, family, prompt, video) for prompt in prompts]


def _one_prompt(tokenizer: Any, family: VideoFamily, prompt: str, video: str | None) -> str:
    """Return one prompt as the template writes it."""
    before, marker, after = prompt.partition(VISUAL_MARKER)
    if VISUAL_MARKER in after:
        cause = f"A prompt holds `{VISUAL_MARKER}` twice: {prompt[:80]!r}."
        raise ConfigError(cause, "Keep one marker; all visual tokens go there together.")
    texts = (before, after) if marker else ("", prompt)
    first, last = [[{"type": "text", "text": text}] if text else [] for text in texts]
    content = [*first, *([] if video is None else [{"type": "video"}]), *last]
    messages = [{"role": "user", "content": content}]
    written = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if video is None:
        return written
    if written.count(family.chat_video) != 1:
        cause = (
            f"The chat template writes `{family.chat_video}` {written.count(family.chat_video)} times for one video."
        )
        raise ConfigError(cause, "Pass the template of the model's processor as `chat_template`.")
    return written.replace(family.chat_video, video)
