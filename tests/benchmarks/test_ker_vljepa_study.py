"""The study of Ker-VLJEPA's curriculum: its plans and tables, and the whole of it at a minimal size."""

from __future__ import annotations

import json

import pytest

from benchmarks.studies.ker_vljepa.__main__ import main
from benchmarks.studies.ker_vljepa.plans import COLD, FULL, SHARED, seed_plan, shared_plan
from benchmarks.studies.ker_vljepa.scoring import ARMS, SCORES, VISUAL, WRITING
from benchmarks.studies.ker_vljepa.tables import study_tables

MADE = {name: f"made/{name}" for name in SHARED}
QUIET = {
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
    "trainer.accelerator": "cpu",
}
TRAIN = {
    **QUIET,
    "trainer.max_epochs": 1,
    "trainer.limit_train_batches": 1,
    "trainer.limit_val_batches": 1,
    "data.init_args.data.init_args.batch_size": 4,
    "data.init_args.data.init_args.data.init_args.val_fraction": 0.4,
}
SMALL = {
    "phantoms": {"count": 14, "shape": [8, 32, 32], "workers": 0, "progress": False, "valid_fraction": 0.4},
    "ssl": {**QUIET, "trainer.max_steps": 1, "data.init_args.batch_size": 4},
    "language": {"steps": 3, "vocab_size": 600, "phantoms": 4, "progress": False},
    "embeddings": {"progress": False},
    "training": TRAIN,
    **{name: {"model.init_args.generation": {"max_new_tokens": 6}} for name in WRITING},
}


def test_whole_reports_start_where_positive_findings_do() -> None:
    plan = seed_plan(7, MADE, {"training": {"trainer.max_epochs": 2}, "phase4": {"trainer.max_epochs": 3}})
    phases = {phase["name"]: phase for phase in plan["phases"]}
    full = dict(phases[FULL]["options"])
    assert full.pop("data.init_args.text") == "report"
    assert full.pop("model.init_args.generation") == {"max_new_tokens": 256}
    assert full == phases[COLD]["options"]
    assert {phase["options"]["seed_everything"] for phase in phases.values()} == {7}
    assert [phases[name]["options"]["trainer.max_epochs"] for name in ("phase3", "phase4")] == [2, 3]
    assert not set(phases) & set(SHARED)
    assert plan["options"]["data.init_args.data.init_args.folder"] == "made/embeddings"


def test_seeds_share_what_comes_before_phase_1() -> None:
    steps = shared_plan({"phantoms": {"count": 3}})["phases"]
    assert [step["name"] for step in steps] == list(SHARED)
    assert steps[0]["options"]["count"] == 3
    assert steps[0]["options"]["shape"] == [32, 48, 48]


def result(f1: float) -> dict:
    keys = (*SCORES, "other_patient_macro_f1", "fitted_macro_f1", "oracle_macro_f1", "macro_auroc")
    return {
        "classifier": {name: dict.fromkeys(keys, f1) for name in VISUAL},
        "arms": {name: {arm: dict.fromkeys(SCORES, f1) for arm in ARMS} for name in WRITING},
        "epochs": {COLD: [f1, f1 / 2], FULL: [f1, 0.0]},
    }


def test_tables_hold_mean_and_range_over_seeds() -> None:
    text = study_tables([result(0.2), result(0.4)])
    assert "| 4, whole reports |" + " 0.300 (0.200-0.400) |" * 5 in text
    assert "| 2 | 0.150 (0.100-0.200) | 0.000 (0.000-0.000) |" in text
    assert "| 1 | 0.200 | 0.200 |" in study_tables([result(0.2)])


@pytest.mark.slow
def test_the_study_runs_at_a_minimal_size_and_is_read_when_asked_again(tmp_path, capsys) -> None:
    arguments = ["--seeds", "0", "--out", str(tmp_path), "--changes", json.dumps(SMALL)]
    arguments += ["--generation", json.dumps({"max_new_tokens": 6})]
    assert main(arguments) == 0
    first = (tmp_path / "ker_vljepa.json").read_text()
    found = json.loads(first)[0]
    assert set(found["arms"]) == set(WRITING)
    assert all(set(arms) == set(ARMS) for arms in found["arms"].values())
    assert len(found["epochs"][FULL]) == 1
    assert 0 <= found["classifier"]["phase1"]["macro_auroc"] <= 1
    scores = tmp_path / "seed0" / "scores" / "phase4.json"
    written = scores.stat().st_mtime_ns
    assert main(arguments) == 0
    assert (tmp_path / "ker_vljepa.json").read_text() == first
    assert scores.stat().st_mtime_ns == written
    assert "| 4, whole reports |" in capsys.readouterr().out
