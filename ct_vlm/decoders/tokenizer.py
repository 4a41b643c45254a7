"""Training a small tokenizer offline, and tokenizers as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


def train_bpe_tokenizer(
    texts: Iterable[str], vocab_size: int = 1000, *, min_frequency: int = 2, split_digits: bool = True
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on texts, without a network.

    No merge crosses a word, so a sentence never becomes one token. Every string survives a round
    trip, whether its words were seen or not, because the 256 bytes are part of the vocabulary.

    Args:
        texts: Training texts.
        vocab_size: Upper bound of the vocabulary, at least 260 (the bytes and four special tokens).
        min_frequency: Least number of times a pair must occur to be merged.
        split_digits: Whether every digit is a token of its own, so that sizes share tokens.

    Raises:
        ConfigError: If ``vocab_size`` cannot hold the bytes.

    Example:
        >>> from ct_vlm.decoders import train_bpe_tokenizer
        >>> tokenizer = train_bpe_tokenizer(["A nodule of 3.5 mm."] * 4, vocab_size=300)
        >>> tokenizer.decode(tokenizer("Nodule, 3.5 mm.", add_special_tokens=False)["input_ids"])
        'Nodule, 3.5 mm.'
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < 260:
        cause = f"Expected `vocab_size` of at least 260, but got {vocab_size}."
        raise ConfigError(cause, "The 256 bytes and four special tokens need a place.")
    backend = Tokenizer(models.BPE(unk_token=UNK))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split_digits else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[PAD, BOS, EOS, UNK],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(tokenizer: Any) -> PreTrainedTokenizerFast:
    """Return a fast tokenizer.

    Args:
        tokenizer: A fast tokenizer, what :func:`tokenizer_to_config` returned, a path or hub id, or
            ``{"train_on": "reports.csv", "columns": [...], "vocab_size": ...}``, which trains one
            with :func:`train_bpe_tokenizer` on columns of a table (so that a YAML file can ask for
            a new vocabulary).

    Raises:
        ConfigError: If it is none of them.
    """
    from transformers import AutoTokenizer

    if isinstance(tokenizer, dict):
        return _train_on_table(**tokenizer) if "train_on" in tokenizer else tokenizer_from_config(tokenizer)
    if isinstance(tokenizer, str | Path):
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(tokenizer))
        except (OSError, ValueError) as error:
            cause = f"Cannot load a tokenizer from `{tokenizer}`: {error}"
            raise ConfigError(cause, "Pass a directory with tokenizer.json, or a hub id.") from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        cause = f"Expected a fast tokenizer, but got {type(tokenizer).__name__}."
        raise ConfigError(cause, "Pass a tokenizer with a tokenizer.json; a slow one cannot be stored as JSON.")
    return tokenizer


def tokenizer_to_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return a tokenizer as JSON values: ``tokenizer_json`` (text), special tokens, template.

    Padding and truncation that calls have set on the tokenizer are left out.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.update(truncation=None, padding=None)
    special = {name: str(getattr(tokenizer, name)) for name in _SPECIAL_NAMES if getattr(tokenizer, name, None)}
    values: dict[str, Any] = {"tokenizer_json": json.dumps(state, ensure_ascii=False), "special_tokens": special}
    if getattr(tokenizer, "chat_template", None):
        values["chat_template"] = tokenizer.chat_template
    return values


def tokenizer_from_config(config: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Rebuild a tokenizer from what :func:`tokenizer_to_config` returned.

    Args:
        config: ``tokenizer_json`` and ``special_tokens``, optionally ``chat_template``.

    Raises:
        ConfigError: If a key is missing or unknown, or the JSON is no tokenizer.

    Example:
        >>> from ct_vlm.decoders import tokenizer_from_config, tokenizer_to_config, train_bpe_tokenizer
        >>> first = train_bpe_tokenizer(["clear lungs"], vocab_size=270)
        >>> again = tokenizer_from_config(tokenizer_to_config(first))
        >>> again("clear")["input_ids"] == first("clear")["input_ids"]
        True
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    unknown = set(config) - {"tokenizer_json", "special_tokens", "chat_template"}
    if unknown or "tokenizer_json" not in config:
        cause = f"A tokenizer config needs `tokenizer_json`, but the keys are {sorted(config)}."
        raise ConfigError(cause, "Use the output of `tokenizer_to_config`.")
    try:
        backend = Tokenizer.from_str(config["tokenizer_json"])
    except Exception as error:  # the Rust library raises bare Exception
        cause = f"`tokenizer_json` is no tokenizer: {error}."
        raise ConfigError(cause, "Use the output of `tokenizer_to_config`.") from error
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **config.get("special_tokens", {})
    )
    if config.get("chat_template") is not None:
        tokenizer.chat_template = config["chat_template"]
    return tokenizer


def _train_on_table(
    train_on: str | Path, columns: Sequence[str] = ("Findings_EN",), vocab_size: int = 1000
) -> PreTrainedTokenizerFast:
    """Train a tokenizer on the texts of a CSV file."""
    import pandas as pd

    try:
        table = pd.read_csv(train_on, usecols=list(columns))
    except (OSError, ValueError) as error:
        cause = f"Cannot read the columns {list(columns)} of `{train_on}`: {error}"
        raise ConfigError(cause, "Name a CSV file with report text, and its columns.") from error
    texts = sorted({str(text) for column in columns for text in table[column].dropna()})
    return train_bpe_tokenizer(texts, vocab_size)
