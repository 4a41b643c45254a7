"""Invented sentences with the labels that a reader of the data set's conventions would give."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_vlm.metrics import RuleLabeler
from ct_vlm.text.labels import CT_RATE_LABELS

CODES = dict(
    zip(
        ["MM", "AC", "CM", "PE", "CC", "HH", "LN", "EM", "AT", "NO", "OP", "FS", "PL", "MO", "PB", "CO", "BR", "IS"],
        CT_RATE_LABELS,
        strict=True,
    )
)
"""Short codes of the labels in the sentence files."""
TABLES = Path(__file__).parent / "sentences"


def read(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines()]


def labels(codes: str) -> set[str]:
    return {CODES[code] for code in codes.split(",") if code}


CERTAIN = [
    pytest.param(sentence, labels(codes), id=f"{path.stem}-{number}")
    for path in sorted(TABLES.glob("*.tsv"))
    if path.stem != "doubt"
    for number, (sentence, codes) in enumerate(read(path), 1)
]
OPEN = [(sentence, labels(stated), labels(left_open)) for sentence, stated, left_open in read(TABLES / "doubt.tsv")]


def found_in(labeler: RuleLabeler, sentence: str) -> set[str]:
    return {name for name, value in zip(CT_RATE_LABELS, labeler([sentence])[0], strict=True) if value == 1}


@pytest.mark.parametrize(("sentence", "expected"), CERTAIN)
def test_sentence(sentence, expected):
    labeler = RuleLabeler()
    assert found_in(labeler, sentence) == expected, str(labeler.explain(sentence))


@pytest.mark.parametrize(("sentence", "stated", "left_open"), OPEN)
def test_what_is_left_open(sentence, stated, left_open):
    assert found_in(RuleLabeler(), sentence) == stated | left_open
    careful = RuleLabeler(uncertain="negative")
    assert found_in(careful, sentence) == stated, str(careful.explain(sentence))


def test_the_tables_cover_every_label_both_ways():
    assert len(CERTAIN) >= 800
    expected = [case.values[1] for case in CERTAIN]
    for label in CT_RATE_LABELS:
        assert sum(label in found for found in expected) >= 8, label
    assert sum(not found for found in expected) >= 200


def test_no_sentence_is_there_twice():
    sentences = [case.values[0].lower() for case in CERTAIN] + [case[0].lower() for case in OPEN]
    assert len(sentences) == len(set(sentences))
