import json

import pytest

from benchmarks import evaluation

pytest.importorskip("pycocoevalcap", reason="compares with pycocoevalcap")


def test_pairs_have_the_wanted_length_and_differ() -> None:
    predictions, references = evaluation.make_pairs(5, 40, pool=20)
    assert all(len(text.split()) >= 40 for text in references)
    assert all(said != true for said, true in zip(predictions, references, strict=True))
    assert evaluation.make_pairs(5, 40, pool=20) == (predictions, references)


def test_rows_hold_values_equal_to_the_other_package(tmp_path, capsys) -> None:
    path = tmp_path / "rows.json"
    options = ["--reports", "12", "--words", "30", "--rounds", "2", "--resamples", "10", "--json", str(path)]
    assert evaluation.main(options) == 0
    rows = {row["work"]: row for row in json.loads(path.read_text())}
    assert list(rows) == [
        "bleu", "rouge", "cider", "rule labeler", "rule labeler, no sentence twice", "full evaluation",
    ]  # fmt: skip
    assert all(rows[name]["difference"] < evaluation.TOLERANCE for name in ("bleu", "rouge", "cider"))
    assert all(row["wall_s"] >= 0 for row in rows.values())
    assert "reports/min/core" in rows["rule labeler"]["note"]
    assert "12 pairs" in capsys.readouterr().out


def test_values_that_differ_fail_the_run(monkeypatch) -> None:
    wrong = [evaluation.Timing("bleu", 1.0, 1.0, 1.0, 1.0, 0.1)]
    monkeypatch.setattr(evaluation, "compare_scores", lambda *_: wrong)
    assert evaluation.main(["--reports", "4", "--words", "20", "--rounds", "1", "--resamples", "5"]) == 1
