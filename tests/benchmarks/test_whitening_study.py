"""The study of whitening at the least size, and its texts."""

from __future__ import annotations

import json

import torch

from benchmarks.studies.whitening import (
    COLUMNS,
    Recipe,
    Texts,
    compare,
    main,
    retold_findings,
    retold_reports,
    table,
    training_reports,
)
from ct_vlm.metrics import RuleLabeler
from ct_vlm.modules import PCAWhitening

LEAST = Recipe(train_patients=8, test_patients=6, wordings=2, steps=1, vocab_size=600)


def test_study_writes_and_prints_one_row_a_kind_of_text(tmp_path, capsys):
    assert main(["--seeds", "0", "--out", str(tmp_path), "--no-progress"], LEAST) == 0
    rows = json.loads((tmp_path / "whitening.json").read_text())["rows"]
    assert len(rows) == 3
    assert 0 < rows[0]["explained variance"] <= 1
    assert all(row["cosine after"] < row["cosine before"] for row in rows)
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if line.startswith("| ")]) == 4


def test_retold_texts_say_the_same_in_other_words():
    labeler = RuleLabeler()
    for found in (retold_reports(5, 3, 40), retold_findings(5, 3, 40)):
        assert found.groups is not None
        assert len(set(found.texts)) == len(found.texts) == len(found.groups)
        stated = {}
        for row, group in zip(torch.as_tensor(labeler(found.texts)).tolist(), found.groups, strict=True):
            stated.setdefault(group, set()).add(tuple(row))
        assert len(stated) > 2
        assert all(len(rows) == 1 for rows in stated.values())
    assert len(set(training_reports(5, 40).texts)) == 5


def test_comparison_is_that_of_known_embeddings():
    # a large common part hides two groups
    rows = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [2.0, 0.0]]) - 0.75 + torch.tensor([50.0, 50.0])

    class Known:
        whitening = PCAWhitening(2, 2).fit(rows)

        def embed_all(self, texts, *, progress):
            assert not progress
            return rows

    found = compare(Known(), Texts(list("abcd"), ["x", "x", "y", "y"]))
    assert found["cosine before"] > 0.999
    assert found["cosine after"] < 0.1
    assert found["d' before"] < found["d' centred"]


def test_table_gives_mean_and_range():
    rows = [{"texts": "a", **dict.fromkeys(COLUMNS, value)} for value in (0.5, 0.7)]
    assert "| a | 0.600 (0.500 to 0.700) |" in table(rows)
    assert "0.60 (0.50 to 0.70) |" in table(rows)
    assert "(" not in table(rows[:1]).splitlines()[2]
