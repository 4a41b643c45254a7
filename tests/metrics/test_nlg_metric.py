from __future__ import annotations

import json
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ct_vlm.metrics import ReportBLEU, ReportNLG
from ct_vlm.metrics.functional import nlg_scores

COUNTED = ("bleu", "rouge", "cider")
PREDICTIONS = ["Heart size increased.", None, "Größe 5.5 µm\nseen.", "A nodule is seen.", "", "\ud800 No effusion."]
REFERENCES = ["Heart size is increased.", "Normal.", "Größe 5 µm seen.", "No nodule is seen.", "Mass.", "No effusion."]


@pytest.mark.parametrize("protocol", ["vlm3d", "ct2rep", "hf_evaluate"])
def test_the_class_equals_the_function(protocol):
    metric = ReportNLG(protocol, COUNTED)
    for start in range(0, 6, 4):
        metric.update(PREDICTIONS[start : start + 4], REFERENCES[start : start + 4])
    assert metric.compute() == nlg_scores(PREDICTIONS, REFERENCES, protocol, COUNTED)
    metric.reset()
    metric.update([], [])
    assert metric.compute() == nlg_scores([], [], protocol, COUNTED)


@pytest.mark.parametrize("protocol", ["vlm3d", "ct2rep", "hf_evaluate"])
def test_bleu_alone_equals_the_function(protocol):
    metric = ReportBLEU(protocol)
    for start in range(0, 6, 4):
        metric.update(PREDICTIONS[start : start + 4], REFERENCES[start : start + 4])
    expected = nlg_scores(PREDICTIONS, REFERENCES, protocol, ["bleu"])
    # a mean over reports is no function of summed counts
    assert metric.compute() == {name: value for name, value in expected.items() if not name.endswith("report_mean")}
    metric.reset()
    metric.update([], [])
    assert metric.compute()["num_samples"] == 0


def test_forward_returns_the_score_of_the_batch():
    metric = ReportNLG(metrics=["rouge"])
    assert metric(["a b"], ["a b"])["rouge_l"] == 1
    assert metric(["a b"], ["c d"])["rouge_l"] == 0
    assert metric.compute()["rouge_l"] == 0.5


def test_states_of_two_processes_add_up():
    for metric_class, metrics in ((ReportBLEU, {}), (ReportNLG, {"metrics": COUNTED})):
        halves = [metric_class(**metrics) for _ in range(2)]
        for rank, metric in enumerate(halves):
            metric.update(PREDICTIONS[rank * 3 : rank * 3 + 3], REFERENCES[rank * 3 : rank * 3 + 3])
        halves[0].merge_state(halves[1])
        whole = metric_class(**metrics)
        whole.update(PREDICTIONS, REFERENCES)
        assert halves[0].compute() == whole.compute()


def test_states_move_and_save_as_tensors():
    metric = ReportNLG(metrics=["bleu"])
    metric.update(PREDICTIONS, REFERENCES)
    assert {state.dtype for state in metric.texts} == {torch.uint8}
    assert metric.to("cpu").half().compute() == nlg_scores(PREDICTIONS, REFERENCES, metrics=["bleu"])


def scores_of(parts, rank):
    """Score one process's part of the reports; the last process may have none."""
    metrics = {"bleu": ReportBLEU(), "nlg": ReportNLG(metrics=COUNTED)}
    rows = parts[rank]
    for metric in metrics.values():
        if rows:
            metric.update([PREDICTIONS[r] for r in rows], [REFERENCES[r] for r in rows])
    return {name: metric.compute() for name, metric in metrics.items()}


def worker(rank, folder):
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    scores = [scores_of(parts, rank) for parts in ([[0, 2, 4, 5], [1, 3]], [[3, 2, 1, 0, 5, 4], []])]
    (folder / f"{rank}.json").write_text(json.dumps(scores), encoding="utf-8")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    mp.start_processes(worker, args=(tmp_path,), nprocs=2, start_method="fork")
    expected = json.loads(json.dumps(scores_of([range(6)], 0)))
    for rank in range(2):
        for found in json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")):
            for name, scores in expected.items():
                for key, value in scores.items():
                    close = pytest.approx(value, abs=1e-12) if isinstance(value, float) else value
                    assert found[name][key] == close, (name, key)
