"""Tiny random checkpoints of transformers' video language models, for tests, notebooks and studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.files import write_json
from ct_vlm.video_lm.families import family_of
from ct_vlm.video_lm.tiny import tiny_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def write_tiny_video_lm(
    folder: str | Path,
    backbone: str,
    texts: Iterable[str],
    *,
    vocab_size: int = 1000,
    seed: int = 0,
    text_config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint of a tiny video language model with random weights, as transformers writes it.

    Architecture, file names and keys are those of real checkpoints, so that whatever reads this one reads
    those. The tokenizer is trained on the texts; nothing is downloaded.

    Args:
        folder: Made if absent; holds ``config.json``, weights and tokenizer afterwards.
        backbone: ``"qwen2_5_vl"``, ``"qwen3_vl"`` or ``"internvl"``.
        texts: What the tokenizer is trained on.
        vocab_size: Upper bound of the vocabulary, special tokens of the family not counted.
        seed: Decides the weights; the global random state is left as it was.
        text_config: Fields of the language model's config in place of the tiny ones.

    Returns:
        The folder.

    Raises:
        ConfigError: If there is no tiny model of that family.

    Example:
        >>> import tempfile
        >>> from ct_vlm.models import write_tiny_video_lm
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = sorted(f.name for f in write_tiny_video_lm(folder, "internvl", ["Clear."]).iterdir())
        >>> files[1], files[-2]
        ('config.json', 'tokenizer.json')
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from ct_vlm.decoders.language_model import token_settings
    from ct_vlm.decoders.tokenizer import train_bpe_tokenizer
    from ct_vlm.decoders.video_prompts import chat_tokenizer

    values = tiny_config(backbone)
    family = family_of(values)
    tokenizer = chat_tokenizer(train_bpe_tokenizer(texts, vocab_size), family)
    values["text_config"].update(token_settings(tokenizer), **(text_config or {}))
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    for name, token in family.token_ids.items():
        setattr(config, name, tokenizer.convert_tokens_to_ids(token))
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    if family.rotary:
        # frames of 64 x 64 pixels stay as they are: the usual limits would enlarge them
        write_json(path / "video_preprocessor_config.json", {"size": {"shortest_edge": 256, "longest_edge": 2**20}})
    return path
