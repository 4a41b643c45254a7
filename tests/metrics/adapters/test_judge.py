"""A language model as a judge: prompts, answers, invalid ones."""

from __future__ import annotations

import math

import pytest

from ct_vlm.errors import ConfigError
from ct_vlm.metrics.adapters.judge import PROTOCOLS, JudgeProtocol, judge_scores

HUNDRED, TEN = PROTOCOLS["judge_0_100"], PROTOCOLS["judge_0_10"]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Score: 70", 70.0),
        ("**Score:** 70/100", 70.0),
        ("The nodule of 5 mm is missing.\nScore: 42.5", 42.5),
        ("88", 88.0),
        ("88%", 88.0),
        ("88/100.", 88.0),
        ("I give a score of 55.", 55.0),
        ("Score: 101", None),
        ("Score: -5", None),
        ("Score: 40\nScore: 60", None),
        ("There are 2 differences.", None),
        ("", None),
        ("Score: high", None),
    ],
)
def test_answers_are_read(answer: str, score: float | None) -> None:
    assert HUNDRED.read(answer) == score


def test_protocols_have_their_own_range_and_name() -> None:
    assert TEN.read("Score: 11") is None
    assert TEN.read("Score: 9") == 9.0
    scores = [judge_scores(["a"], ["a"], lambda _: "Score: 9", "m", protocol=name) for name in PROTOCOLS]
    assert [score.protocol for score in scores] == ["judge_0_100", "judge_0_10"]
    assert "from 0 to 10." in TEN.ask("a", "b")


def test_a_prompt_holds_both_reports_as_they_are() -> None:
    prompt = HUNDRED.ask("{reference} of the lung", "Effusion {highest}")
    assert "{reference} of the lung" in prompt
    assert "Effusion {highest}" in prompt
    assert "from 0 to 100" in prompt


def test_invalid_answers_are_asked_again_and_counted() -> None:
    answers = iter(["no idea", "Score: 80", "no", "no", "no"])
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(answers)

    scores = judge_scores(["one", "two", None], ["r1", "r2", "r3"], ask, "model-1", retries=2)
    assert len(asked) == 5
    assert scores.segments == [80.0, None, 0.0]
    assert scores.invalid == [1]
    assert scores.score == pytest.approx(80 / 3)
    assert scores.valid_score == 40.0
    assert "no score in" in scores.errors[1]
    assert scores.missing_predictions == 1
    assert scores.judge == "model-1"


def test_a_failing_service_is_reported_not_hidden() -> None:
    def ask(prompt: str) -> str:
        raise TimeoutError("busy")

    scores = judge_scores(["a"], ["a"], ask, "m", retries=1)
    assert scores.invalid == [0]
    assert scores.errors == {0: "TimeoutError: busy"}
    assert math.isnan(scores.valid_score)
    assert scores.score == 0.0


def test_own_protocols_and_wrong_settings() -> None:
    own = JudgeProtocol("mine", 5.0, "{prediction}|{reference}|{highest}")
    assert own.ask("p", "r") == "p|r|5"
    assert judge_scores(["a"], ["a"], lambda _: "4", "m", protocol=own).score == 4.0
    with pytest.raises(ConfigError, match="judge_0_100, judge_0_10"):
        judge_scores(["a"], ["a"], str, "m", protocol="judge")
    with pytest.raises(ConfigError, match="name of the judge"):
        judge_scores(["a"], ["a"], str, "")
