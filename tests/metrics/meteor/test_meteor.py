"""METEOR against the golden values, the outside packages and its own definition."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, MissingDependencyError, ShapeError
from ct_vlm.metrics.functional.meteor import meteor_scores
from ct_vlm.metrics.meteor import java, nltk_score, resources
from ct_vlm.metrics.meteor.parameters import score_statistics, sum_statistics
from ct_vlm.metrics.meteor.synonyms import base_forms, synonym_sets

REFERENCES = ["The heart is enlarged. A 5 mm nodule is seen.", "No pleural effusion was observed.", "Lungs are clear."]
PREDICTIONS = [
    "Heart size is increased, and a nodule of 5 mm is seen.",
    "No pleural effusion was observed.",
    "Big liver",
]
GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
PAIRS = ([pair["hyp"] for pair in GOLDEN["pairs"]], [pair["ref"] for pair in GOLDEN["pairs"]])

pytest.importorskip("pycocoevalcap")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java runtime")


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize("cleaning", sorted(GOLDEN["1.5"]))
def test_the_1_5_family_gives_the_golden_values(cleaning: str) -> None:
    texts, expected = GOLDEN["texts"][cleaning], GOLDEN["1.5"][cleaning]
    scores = meteor_scores(texts["hyp"], texts["ref"])
    assert scores.score == pytest.approx(expected["corpus"], abs=1e-9)
    assert scores.segments == pytest.approx(expected["per_pair"], abs=1e-9)
    assert scores.versions["meteor"] == "1.5"


@needs_java
@pytest.mark.slow
def test_one_run_equals_pycocoevalcap_and_counts_missing_reports() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    theirs, segments = Meteor().compute_score(
        {i: [text] for i, text in enumerate(REFERENCES)}, {i: [text] for i, text in enumerate(PREDICTIONS)}
    )
    ours = meteor_scores([*PREDICTIONS, None], [*REFERENCES, "Trachea is open."])
    assert ours.segments == pytest.approx([*segments, 0.0], abs=1e-9)
    assert ours.missing_predictions == 1
    assert ours.score < theirs


def test_a_sum_counts_no_chunk_of_a_whole_match() -> None:
    whole = np.array([4, 4, 0, 0, 4, 4, 0, 0, *[0] * 12, 1, 4, 4], dtype=float)
    half = np.array([4, 4, 0, 0, 2, 2, 0, 0, *[0] * 12, 2, 2, 2], dtype=float)
    assert score_statistics(whole) == 1.0
    assert score_statistics(half) == pytest.approx(0.5 * 0.4)  # every match a chunk: penalty 0.6
    assert sum_statistics(np.stack([whole, half]))[-3:].tolist() == [2, 6, 6]
    assert score_statistics(np.zeros(23)) == 0.0


@pytest.mark.parametrize(("tokenizer", "key"), [("whitespace", "whitespace"), ("treebank", "nltk_treebank_nosent")])
@pytest.mark.parametrize("wordnet", ["none", "jar"])
def test_the_nltk_family_gives_the_golden_values(tokenizer: str, key: str, wordnet: str) -> None:
    scores = meteor_scores(*PAIRS, variant="nltk", tokenizer=tokenizer, wordnet=wordnet)
    assert scores.score == pytest.approx(GOLDEN["nltk"][key]["mean"], abs=1e-9)
    assert scores.segments == pytest.approx(GOLDEN["nltk"][key]["per_pair"], abs=1e-9)
    assert scores.synonyms == wordnet


@pytest.mark.parametrize("probe", sorted(GOLDEN["synonym_probe"]))
@pytest.mark.parametrize(("wordnet", "key"), [("none", "no_synonyms"), ("jar", "wordnet3.0")])
def test_synonym_probes(probe: str, wordnet: str, key: str) -> None:
    prediction, reference = probe.split(" ||| ")
    scores = meteor_scores([prediction], [reference], "nltk", tokenizer="whitespace", wordnet=wordnet)
    assert scores.score == pytest.approx(GOLDEN["synonym_probe"][probe][key], abs=1e-9)


def test_auto_takes_synonyms_where_they_are() -> None:
    scores = meteor_scores(["a tumour"], ["a tumor"], "nltk")
    assert scores.synonyms in {"nltk", "jar"}


def test_base_forms_follow_wordnet() -> None:
    synsets = {"nodule": ("1",), "hate": ("2",), "hat": ("3",), "mass": ("4",), "mas": ("5",), "see": ("6",)}
    exceptions = {"saw": ("see",)}
    forms = {word: base_forms(word, synsets, exceptions) for word in ("nodules", "hating", "mass", "saw", "as", "xyz")}
    assert forms == {"nodules": ("nodule",), "hating": ("hate",), "mass": (), "saw": ("see",), "as": (), "xyz": ()}
    assert synonym_sets("saw", synsets, exceptions) == {"6"}


def test_malformed_input_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"1\.5, nltk"):
        meteor_scores([], [], variant="2")
    with pytest.raises(ShapeError, match="1 and 2"):
        meteor_scores(["a"], ["a", "b"], "nltk")
    with pytest.raises(ConfigError, match="treebank, whitespace"):
        meteor_scores(["a"], ["a"], "nltk", tokenizer="words")
    with pytest.raises(ConfigError, match="auto, nltk, jar"):
        meteor_scores(["a"], ["a"], "nltk", wordnet="yes")


def test_missing_resources_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match="`java` is not on the path"):
        meteor_scores(["a"], ["a"])
    monkeypatch.setattr(resources.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"ct_vlm\[metrics\]"):
        resources.find_jar()


def test_without_any_wordnet_the_result_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise MissingDependencyError("absent")

    monkeypatch.setattr(nltk_score, "_nltk_wordnet", absent)
    monkeypatch.setattr(nltk_score, "_jar_wordnet", absent)
    assert meteor_scores(["a tumour"], ["a tumor"], "nltk").synonyms == "none"


def test_a_program_that_prints_nonsense_is_an_error() -> None:
    with pytest.raises(java.MeteorProgramError, match="printed 0 of 1 results; it said: Killed"):
        java._read_statistics("no numbers", 1, "Killed")


def test_scores_are_kept_where_java_does_not_say_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], **_: object) -> None:
        raise java.subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(java, "find_java", lambda: "java")
    monkeypatch.setattr(java.subprocess, "run", hangs)
    assert java.java_version() == "unknown"


def test_a_java_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java, "find_java", lambda: str(tmp_path))  # a folder is no program
    with pytest.raises(java.MeteorProgramError, match="cannot be started"):
        java.java_statistics(["a"], ["a"])


def test_text_stays_one_field() -> None:
    assert java._one_line("a\nb ||| c\u2028d") == "a b c d"


@needs_java
def test_no_reports_need_no_process() -> None:
    assert java.java_statistics([], []).shape == (0, 23)
