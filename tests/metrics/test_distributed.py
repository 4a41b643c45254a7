from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ct_vlm.metrics import ClassifierScores, ClinicalEfficacy, CRGScore, ReportBLEU, ReportNLG

REPORTS = ["Heart size increased.", "Pleural effusion is seen.", "No nodule was seen.", "A nodule is seen.", "Normal."]


def scores_of(rows):
    """Return every metric over some rows of one fixed data set."""
    rng = np.random.default_rng(0)
    probabilities, targets = rng.random((5, 18)), (rng.random((5, 18)) < 0.5).astype(int)
    predictions = (probabilities > 0.5).astype(int)
    metrics = {"bleu": ReportBLEU(), "efficacy": ClinicalEfficacy(), "auroc": ClassifierScores(), "crg": CRGScore()}
    metrics["nlg"] = ReportNLG(metrics=["bleu", "rouge", "cider"])
    for name in ("bleu", "nlg"):
        metrics[name].update([REPORTS[r] for r in rows], [REPORTS[r - 1] for r in rows])
    metrics["efficacy"].update([REPORTS[r] for r in rows], targets[rows])
    metrics["auroc"].update(torch.tensor(probabilities[rows]), torch.tensor(targets[rows]))
    metrics["crg"].update(predictions[rows], targets[rows])
    return {name: metric.compute() for name, metric in metrics.items()}


def worker(rank, folder):
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    scores = scores_of([[0, 1, 2], [3, 4]][rank])
    (folder / f"{rank}.json").write_text(json.dumps(scores), encoding="utf-8")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    mp.start_processes(worker, args=(tmp_path,), nprocs=2, start_method="fork")
    expected = json.loads(json.dumps(scores_of([0, 1, 2, 3, 4])))
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        for name, scores in expected.items():
            for key, value in scores.items():
                assert found[name][key] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), key
