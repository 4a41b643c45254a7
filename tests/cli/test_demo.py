"""`ct-vlm demo --quick`, and what it is made of."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from ct_vlm.cli.demo.memory import PeakMemory
from ct_vlm.cli.demo.pictures import draw_case
from ct_vlm.cli.demo.scoring import location_accuracy
from ct_vlm.cli.main import main
from ct_vlm.phantoms import Finding
from ct_vlm.text.labels import CT_RATE_LABELS


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    assert main(["demo", "--quick", "--out", str(out), "--no-progress", "--debug"]) == 0
    return out


def test_metrics_hold_what_the_documentation_names(demo):
    metrics = json.loads((demo / "metrics.json").read_text())
    for part, key in [
        ("report", "micro_f1"),
        ("report", "macro_f1"),
        ("report", "bleu_mean"),
        ("report", "location_accuracy"),
        ("report_shuffled", "micro_f1"),
        ("classifier", "macro_auroc"),
    ]:
        assert 0 <= metrics[part][key] <= 1
    assert metrics["distinct_reports"] >= 1
    assert metrics["wall_s"] > 0
    assert 100 < metrics["peak_rss_mb"] < 4096
    assert list(metrics["report"]["per_label"]) == list(CT_RATE_LABELS)


def test_reports_and_pictures_are_written(demo):
    table = pd.read_csv(demo / "reports.csv")
    assert len(table) == 16
    assert table.volume_id.is_unique
    assert len(list((demo / "examples").glob("*.png"))) == 6


def test_generate_takes_the_demo_checkpoint(demo, capsys):
    scan = next((demo / "phantoms" / "dataset" / "valid_fixed").rglob("*.nii.gz"))
    assert main(["generate", "--checkpoint", str(demo / "stage3_report"), "--volume", str(scan)]) == 0
    assert capsys.readouterr().out.strip()


def test_a_finished_demo_is_not_trained_again(demo):
    before = (demo / "stage1_segmentation" / "model.safetensors").stat().st_mtime_ns
    assert main(["demo", "--quick", "--out", str(demo), "--no-progress"]) == 0
    assert (demo / "stage1_segmentation" / "model.safetensors").stat().st_mtime_ns == before


def test_foreign_folders_are_refused(demo, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["demo", "--quick", "--seed", "5", "--out", str(demo)]) == 2
    assert "holds a demo run" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_place_is_right_only_if_every_side_is():
    findings = {
        "a": [Finding("Pleural effusion", side="bilateral")],
        "b": [Finding("Lung nodule", side="left", lobe="left upper lobe")],
        "c": [Finding("Pleural effusion", side="left")],
    }
    texts = {
        "a": "Bilateral pleural effusion is seen.",
        "b": "A 9 mm nodule in the lower lobe of the left lung.",
        "c": "No pleural effusion.",
    }
    records = [{"volume_id": k, "prediction": v} for k, v in texts.items()]
    assert location_accuracy(records, findings) == (0.5, 2)


def test_picture_is_drawn_for_any_size(tmp_path):
    record = {"volume_id": "x", "prediction": "Short.", "reference": "Long. " * 80}
    draw_case(tmp_path / "x.png", np.zeros((1, 5, 7), np.int16), record, (3.0, 1.0, 2.0))
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_peak_memory_sees_what_was_allocated_and_freed():
    with PeakMemory(interval_s=0.01) as memory:
        block = np.ones(50_000_000, np.uint8)
        before = memory.peak_mb
        memory._sample()
        del block
    assert memory.peak_mb >= before > 50
