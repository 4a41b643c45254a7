from __future__ import annotations

from pathlib import Path

import pytest

from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.labeler.engine import Sentence, WordIndex, find_mentions
from ct_vlm.metrics.labeler.lexicon import LABEL_RULES


@pytest.fixture(scope="session")
def labeler():
    return RuleLabeler()


@pytest.fixture(scope="session")
def sentences():
    """Every sentence of the tables."""
    return [
        line.split("\t")[0]
        for path in sorted((Path(__file__).parent / "sentences").glob("*.tsv"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="session")
def free_sentences(sentences):
    """The sentences of the tables whose labels do not depend on the sentence before."""
    index = WordIndex(LABEL_RULES)
    free = []
    for written in sentences:
        sentence = Sentence(written if written.endswith((".", "?")) else f"{written}.")
        for column in index.rules_of(sentence):
            list(find_mentions(LABEL_RULES[column], sentence))
        if not sentence.has_looked_back:
            free.append(sentence.written)
    return free
