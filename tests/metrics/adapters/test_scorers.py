"""Adapters to outside scorers: what is asked for, what is missing, how results are put together."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from ct_vlm.errors import CheckpointError, ConfigError, MissingDependencyError
from ct_vlm.metrics.adapters import scorers
from ct_vlm.metrics.adapters.green import parse_green
from ct_vlm.metrics.adapters.scorers import available_scorers, external_scores

ANSWER = """[Explanation]:
ok

[Clinically Significant Errors]:
(a) False report of a finding in the candidate: 1. Pleural effusion
(b) Missing a finding present in the reference: 2. Nodule; Atelectasis
(c) Misidentification of a finding's anatomic location/position: 0.
(d) Misassessment of the severity of a finding: 0.
(e) Mentioning a comparison that isn't in the reference: 0.
(f) Omitting a comparison detailing a change from a prior study: 0.

[Clinically Insignificant Errors]:
(a) False report of a finding in the candidate: 4.

[Matched Findings]:
3. Cardiomegaly; Emphysema; Hiatal hernia"""


def test_green_counts_significant_errors_alone() -> None:
    answer = parse_green(ANSWER)
    assert answer.score == 0.5
    assert answer.significant_errors == (1, 2, 0, 0, 0, 0)
    assert answer.matched == 3
    assert answer.readable


def test_green_without_a_match_is_zero_and_an_odd_answer_unreadable() -> None:
    assert parse_green(ANSWER.replace("3. Cardio", "0. Cardio")).score == 0.0
    assert not parse_green("I cannot tell.").readable
    assert parse_green("I cannot tell.").score == 0.0


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Put a module with RadEval's interface in its place; its scores are text lengths."""
    calls: list[tuple[str, object]] = []

    class GREEN:
        def __init__(self, model: str, output_dir: str, cpu: bool, num_gpus: int) -> None:
            calls.append(("green", (Path(model).name, cpu, Path(output_dir).is_dir())))

        def __call__(self, refs: list[str], hyps: list[str]) -> tuple:
            return 0.0, 0.0, [len(text) / 10 for text in hyps], None

    class RaTEScore:
        def __init__(self, bert_model: str, eval_model: str, use_gpu: bool) -> None:
            calls.append(("ratescore", (Path(bert_model).name, Path(eval_model).name, use_gpu)))

        def compute_score(self, candidate_list: list[str], reference_list: list[str]) -> tuple:
            return [float(a == b) for a, b in zip(candidate_list, reference_list, strict=True)], None, None

    class F1RadGraph:
        def __init__(self, reward_level: str, model_type: str, model_cache_dir: str, cuda: int) -> None:
            calls.append(("radgraph", (reward_level, model_type, Path(model_cache_dir).name, cuda)))

        def __call__(self, refs: list[str], hyps: list[str]) -> tuple:
            return None, [[level] * len(hyps) for level in (0.3, 0.2, 0.1)]

    homes = {"green_score.green": GREEN, "RaTEScore.scorer": RaTEScore, "radgraph": F1RadGraph}
    for home, scorer in homes.items():
        module = types.ModuleType(f"radeval.metrics.{home}")
        setattr(module, scorer.__name__, scorer)
        monkeypatch.setitem(sys.modules, f"radeval.metrics.{home}", module)
    for parent in ("radeval", "radeval.metrics", "radeval.metrics.green_score", "radeval.metrics.RaTEScore"):
        package = types.ModuleType(parent)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, parent, package)
    monkeypatch.setitem(sys.modules, "radgraph", None)
    monkeypatch.setattr(scorers, "available_scorers", lambda: dict.fromkeys(scorers._SCORERS, "installed"))
    return calls


def test_missing_reports_count_zero_and_are_not_scored(stand_in: list, tmp_path: Path) -> None:
    scores = external_scores(["12345", None, "123"], ["a", "b", "c"], "green", {"model": tmp_path})
    assert scores.segments == {"green": [0.5, 0.0, 0.3]}
    assert scores.scores["green"] == pytest.approx(0.8 / 3)
    assert scores.missing_predictions == 1
    assert stand_in == [("green", (tmp_path.name, True, True))]
    assert scores.settings["model"] == tmp_path.name


def test_each_scorer_gets_its_models(stand_in: list, tmp_path: Path) -> None:
    models = {"entities": tmp_path, "embeddings": tmp_path}
    assert external_scores(["a", "b"], ["a", "c"], "ratescore", models).scores == {"ratescore": 0.5}
    graph = external_scores(["a"], ["a"], "radgraph", {"cache": tmp_path}, on_gpu=True)
    assert graph.scores == {"radgraph_simple": 0.3, "radgraph_partial": 0.2, "radgraph_complete": 0.1}
    assert stand_in[1] == ("radgraph", ("all", "radgraph-xl", tmp_path.name, 0))


def test_nothing_is_downloaded_unless_allowed(stand_in: list) -> None:
    with pytest.raises(CheckpointError, match="not a folder on this machine: a/name"):
        external_scores(["a"], ["a"], "green", {"model": "a/name"})
    assert stand_in == []
    assert external_scores(["a"], ["a"], "green", {"model": "a/name"}, allow_download=True).scores == {"green": 0.1}


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="green, ratescore, radgraph"):
        external_scores(["a"], ["a"], "rouge")
    monkeypatch.setattr(scorers.importlib.util, "find_spec", lambda _: None)
    assert available_scorers()["ratescore"] == "missing: pip install radeval medspacy"
    with pytest.raises(MissingDependencyError, match="pip install radeval"):
        external_scores(["a"], ["a"], "green")


def test_models_must_be_named(stand_in: list) -> None:
    with pytest.raises(ConfigError, match=r"needs the models entities, embeddings, but got none"):
        external_scores(["a"], ["a"], "ratescore")


def test_a_package_that_cannot_be_imported_says_why(
    stand_in: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "radeval.metrics.radgraph", None)
    with pytest.raises(MissingDependencyError, match=r"F1RadGraph is installed but cannot be imported \(radgraph: .*"):
        external_scores(["a"], ["a"], "radgraph", {"cache": tmp_path})
