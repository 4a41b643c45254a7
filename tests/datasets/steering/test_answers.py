"""Parts of answers: their tokens are the first ones of what the first stage learns to write."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from ct_vlm.datasets.steering import HardNegatives, SteeredScan, make_pairs
from ct_vlm.errors import ConfigError
from ct_vlm.phantoms import describe_phantom
from ct_vlm.text import Abnormality, render_cot

# Qwen's, Llama 3's and GPT-4's: punctuation takes the line ends behind it
JOINING = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ENTRIES = (Abnormality("lung", "A nodule is seen."), Abnormality("pleura", "Left effusion of 8 mm."))
REPORTS = ["A nodule is seen. Heart is normal.", "1. Nodule", "(Comparison.) A nodule", "- Nodule", "..."]


def targets() -> list[str]:
    """Whole answers about phantoms."""
    phantoms = [describe_phantom(seed) for seed in range(20)]
    texts = [
        render_cot([(name, text) for name, text in phantom.region_reports.items() if text], phantom.findings_text)
        for phantom in phantoms
    ]
    return [*texts, render_cot(ENTRIES, REPORTS[0])]


@pytest.fixture(scope="module", params=["joining", "plain"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Byte-level BPE that was trained on whole answers, with Qwen's and with GPT-2's words."""
    found = Tokenizer(models.BPE())
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    joining = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(JOINING), "isolated"), bytes_only])
    is_joining = request.param == "joining"
    found.pre_tokenizer = joining if is_joining else pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=600, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    found.train_from_iterator(targets(), trainer)
    joined = any(token.startswith(".)") and "\u010a" in token for token in found.get_vocab())
    assert joined == is_joining  # \u010a is a line end
    return found


def pair_of(report: str, answer: str):
    scan = SteeredScan("a_1", ENTRIES, report)
    return next(make_pairs([scan], HardNegatives("side"), answer=answer))


def is_start(tokenizer: Tokenizer, text: str, whole: str) -> bool:
    ids = tokenizer.encode(text).ids
    return tokenizer.encode(whole).ids[: len(ids)] == ids


@pytest.mark.parametrize("report", REPORTS)
def test_tokens_up_to_the_heading_are_those_of_the_whole_answer(tokenizer, report):
    pair, whole = pair_of(report, "list_and_heading"), pair_of(report, "full")
    assert whole.chosen == render_cot(ENTRIES, report)
    assert is_start(tokenizer, pair.chosen, whole.chosen)
    assert is_start(tokenizer, pair.rejected, whole.rejected)


def test_a_list_alone_ends_within_a_token_where_punctuation_takes_line_ends(tokenizer):
    joins = len(tokenizer.encode(".)\n\n").ids) == 1
    pair, whole = pair_of(REPORTS[0], "list"), pair_of(REPORTS[0], "full")
    assert is_start(tokenizer, pair.chosen, whole.chosen) == (not joins)


def test_the_list_alone_is_the_default_and_others_are_refused():
    scan = SteeredScan("a_1", ENTRIES, "A nodule.")
    assert next(make_pairs([scan], HardNegatives("side"))) == pair_of("A nodule.", "list")
    with pytest.raises(ConfigError, match=r"'heading'.*list_and_heading"):
        pair_of("A nodule.", "heading")
