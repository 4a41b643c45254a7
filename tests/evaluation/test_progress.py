import pytest

from ct_vlm.evaluation import ReportTable, Settings, evaluate, pair_reports
from ct_vlm.evaluation.progress import step


def test_steps_show_on_a_terminal_alone(capsys, monkeypatch) -> None:
    table = ReportTable(("a", "b"), ("Heart size increased.", "No nodule."))
    pairs = pair_reports(table, table)
    settings = Settings(metrics=["bleu"], n_resamples=10, progress=True)
    evaluate(pairs, settings)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take the stream for a terminal
    evaluate(pairs, settings)
    shown = capsys.readouterr()
    assert shown.out == ""
    for text in ("Labelling references", "Labelling predictions", "Counting words", "Resampling patients"):
        assert text in shown.err
    evaluate(pairs, Settings(metrics=["bleu"], n_resamples=10))
    assert capsys.readouterr() == ("", "")


def test_a_step_leaves_errors_alone() -> None:
    with pytest.raises(KeyError, match="x"), step("Counting"):
        raise KeyError("x")
