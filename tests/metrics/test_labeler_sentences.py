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
"""Short codes of the labels in the sentence file."""
LINES = (Path(__file__).parent / "data" / "labeler_sentences.tsv").read_text(encoding="utf-8").splitlines()
CASES = [(line.split("\t")[0], {CODES[c] for c in line.split("\t")[1].split(",") if c}) for line in LINES]


@pytest.mark.parametrize(("sentence", "expected"), CASES)
def test_sentence(sentence, expected):
    labeler = RuleLabeler()
    found = {name for name, value in zip(CT_RATE_LABELS, labeler([sentence])[0], strict=True) if value}
    assert found == expected, {k: v for k, v in labeler.explain(sentence).items() if v}


def test_the_file_covers_every_label_both_ways():
    assert len(CASES) >= 400
    for label in CT_RATE_LABELS:
        assert sum(label in expected for _, expected in CASES) >= 8, label
    assert sum(not expected for _, expected in CASES) >= 100
