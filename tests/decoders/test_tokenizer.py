from __future__ import annotations

import json

import pytest

from ct_vlm.decoders import tokenizer_from_config, tokenizer_to_config, train_bpe_tokenizer
from ct_vlm.decoders.tokenizer import load_tokenizer
from ct_vlm.errors import ConfigError

TEXTS = [
    "A nodule of 3.5 mm, 12 x 8 mm in total; no change.",
    "Findings: clear lungs.\n\nImpressions: normal.",
    "Unseen wörds, 1,5 mL (\u221220 HU) < 0.7 cm²; emphysème?",
]


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_survives_a_round_trip(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text)) == text
    assert tokenizer.unk_token_id not in ids(tokenizer, text)


def test_no_token_crosses_a_word_or_joins_digits():
    tokenizer = train_bpe_tokenizer(["No pleural effusion of 125 mL is seen."] * 50, vocab_size=1000)
    pieces = [tokenizer.decode([i]) for i in ids(tokenizer, "No pleural effusion of 125 mL is seen.")]
    assert pieces == ["No", " pleural", " effusion", " of", " ", "1", "2", "5", " mL", " is", " seen", "."]


def test_training_is_deterministic_and_bounded():
    first, second = (train_bpe_tokenizer(TEXTS * 3, vocab_size=300) for _ in range(2))
    assert tokenizer_to_config(first) == tokenizer_to_config(second)
    assert len(first) == 300


def test_config_round_trip_gives_identical_ids(tokenizer):
    config = json.loads(json.dumps(tokenizer_to_config(tokenizer)))
    again = tokenizer_from_config(config)
    for text in TEXTS:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "unk_token_id"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert tokenizer_to_config(again) == tokenizer_to_config(tokenizer)


def test_config_keeps_template_and_drops_padding_state():
    tokenizer = train_bpe_tokenizer(TEXTS, vocab_size=280)
    tokenizer.chat_template = "{{ messages }}"
    plain = tokenizer_to_config(tokenizer)
    tokenizer(TEXTS, padding="max_length", truncation=True, max_length=4)
    assert tokenizer_to_config(tokenizer) == plain
    assert tokenizer_from_config(plain).chat_template == "{{ messages }}"


def test_added_special_tokens_survive():
    tokenizer = train_bpe_tokenizer(TEXTS, vocab_size=280)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    again = tokenizer_from_config(tokenizer_to_config(tokenizer))
    assert again("<|im_start|>user")["input_ids"] == tokenizer("<|im_start|>user")["input_ids"]
    assert again.decode(again("<|im_start|>user")["input_ids"], skip_special_tokens=True) == "user"


def test_loads_a_saved_directory(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]


def test_named_errors(tmp_path):
    with pytest.raises(ConfigError, match="at least 260"):
        train_bpe_tokenizer(TEXTS, vocab_size=100)
    with pytest.raises(ConfigError, match="needs `tokenizer_json`"):
        tokenizer_from_config({"special_tokens": {}})
    with pytest.raises(ConfigError, match="is no tokenizer"):
        tokenizer_from_config({"tokenizer_json": "{}"})
    with pytest.raises(ConfigError, match="Cannot load a tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="fast tokenizer"):
        load_tokenizer(3)
