"""Small random checkpoints on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [
    *["<s>", "<pad>", "</s>", "<unk>", "heart", "lung", "nodule", "effusion", "size", "is", "normal", "increased"],
    *["no", "seen", "clear", "the", "a", "and", ".", ","],
]


def save_tokenizer(folder: Path, max_length: int | None) -> PreTrainedTokenizerFast:
    """Write a word-level tokenizer with RoBERTa's special tokens."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    limit = {} if max_length is None else {"model_max_length": max_length}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", **names, **limit)
    fast.save_pretrained(folder)
    return fast


@pytest.fixture(scope="session")
def config() -> RobertaConfig:
    return RobertaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=514,
        type_vocab_size=1,
        num_labels=18,
        initializer_range=0.5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, config: RobertaConfig) -> Path:
    """A classifier's folder, as transformers saves it."""
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    RobertaForSequenceClassification(config).eval().save_pretrained(folder)
    save_tokenizer(folder, 512)
    return folder
