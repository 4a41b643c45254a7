from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ct_vlm.callbacks import ReportWriter, RNGState


def draw() -> list[float]:
    return [float(torch.rand(())), float(np.random.rand()), random.random()]  # noqa: NPY002 (the global generator is meant)


def test_rng_state_survives_a_checkpoint_and_is_restored_before_the_first_batch(tmp_path):
    torch.save(RNGState().state_dict(), tmp_path / "state.pt")
    expected = draw()
    draw()
    callback = RNGState()
    callback.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() != expected
    callback.on_train_batch_start(None, None, None, 0)
    assert draw() == expected


def test_rng_state_is_restored_once_only():
    callback = RNGState()
    callback.load_state_dict(callback.state_dict())
    callback.on_train_batch_start(None, None, None, 0)
    first = draw()
    callback.on_train_batch_start(None, None, None, 1)
    assert draw() != first


def test_report_writer_writes_one_row_a_volume(tmp_path):
    path = tmp_path / "deep" / "reports.csv"
    records = [
        [{"id": "b", "prediction": "Two, with a comma.", "reference": "x", "patient_id": "p"}],
        [{"id": "a", "prediction": 'One "quoted".', "reference": "y", "patient_id": "q"}],
        [{"id": "b", "prediction": "Two, with a comma.", "reference": "x", "patient_id": "p"}],
    ]
    ReportWriter(path).write_on_epoch_end(SimpleNamespace(is_global_zero=True), None, records, [])
    table = pd.read_csv(path)
    assert table.volume_id.tolist() == ["a", "b"]
    assert table.prediction.tolist() == ['One "quoted".', "Two, with a comma."]
    assert list(table.columns) == ["volume_id", "patient_id", "prediction", "reference"]
    assert [p.name for p in path.parent.iterdir()] == ["reports.csv"]


def test_report_writer_writes_at_the_end_and_has_no_other_option(tmp_path):
    assert ReportWriter(tmp_path / "x.csv").interval.on_epoch
    with pytest.raises(TypeError, match="write_interval"):
        ReportWriter(tmp_path / "x.csv", write_interval="batch")


def test_report_writer_is_silent_on_other_ranks(tmp_path):
    ReportWriter(tmp_path / "x.csv").write_on_epoch_end(SimpleNamespace(is_global_zero=False), None, [], [])
    assert not (tmp_path / "x.csv").exists()
