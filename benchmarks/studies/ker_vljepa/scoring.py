"""Scores of one seed on patients that no phase saw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.studies.ker_vljepa.plans import COLD, FULL, LONGEST
from ct_vlm.cache import open_features
from ct_vlm.callbacks.padding import pad_to_longest
from ct_vlm.datamodules import CTRateDataModule, SliceEmbeddingDataModule
from ct_vlm.files import write_json
from ct_vlm.metrics import other_patient_permutation, visual_reliance
from ct_vlm.metrics.functional import (
    classifier_scores,
    clinical_scores,
    fit_thresholds,
    threshold_scores,
)
from ct_vlm.models.ker_vljepa import GENERATION
from ct_vlm.tasks import load_task
from ct_vlm.tasks.base import read_checkpoint
from ct_vlm.text import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

VISUAL = ("phase1", "phase2")
WRITING = (COLD, "phase3", "phase4", FULL)
ARMS = ("real", "zeroed", "noise", "other_patient")
SCORES = ("macro_f1", "micro_f1")
SAMPLING = {
    **{name: GENERATION[name] for name in ("do_sample", "temperature", "top_p")},
    "seed": 0,
    "max_new_tokens": LONGEST,
}
"""The paper's sampling, without its penalties of repetition; no text is cut.

Findings come in random order: each of them is a less likely continuation than the end of the text, which the most
likely words would run into too early.
"""


def score_seed(out: Path, made: Mapping[str, str], phases: Mapping[str, str], **options: Any) -> dict[str, Any]:
    """Return all scores of a seed; those that were computed before are read.

    Args:
        out: Folder of the seed.
        made: Shared step to what it made.
        phases: Phase to its checkpoint.
        options: Of ``generate_batch``.
    """

    def kept(name: str, compute: Callable[[], Any]) -> Any:
        file = out / "scores" / f"{name}.json"
        if not file.is_file():
            write_json(file, compute())
        return json.loads(file.read_text(encoding="utf-8"))

    found: dict[str, Any] = {"classifier": {}, "arms": {}, "epochs": {}}
    for name in VISUAL:
        found["classifier"][name] = kept(name, lambda: classifier_f1(phases[name], made))  # noqa: B023
    for name in WRITING:
        found["arms"][name] = kept(name, lambda: reliance_arms(phases[name], made, options))  # noqa: B023
    for name in (COLD, FULL):
        found["epochs"][name] = f1_by_epoch(phases[name])
    return found


def held_out(made: Mapping[str, str], batch_size: int = 100) -> SliceEmbeddingDataModule:
    """Return the slice embeddings; ``test`` holds patients of CT-RATE's validation split, which no phase reads.

    Args:
        made: Shared step to what it made.
        batch_size: Volumes a batch.
    """
    preset = open_features(made["embeddings"]).spec["preset"]
    data = CTRateDataModule(made["phantoms"], preset, val_fraction=0.1)
    return SliceEmbeddingDataModule(data, made["embeddings"], batch_size=batch_size)


@torch.no_grad()
def classifier_f1(checkpoint: str, made: Mapping[str, str]) -> dict[str, float]:
    """Return label scores of a visual phase's classifier on held-out patients.

    ``other_patient`` scores the same answers against the labels of others: what an answer that ignores the
    volume is worth. ``fitted`` has thresholds of the validation patients, ``oracle`` of these very patients.

    Args:
        checkpoint: Of phase 1 or 2.
        made: Shared step to what it made.
    """
    task, data = load_task(checkpoint).eval(), held_out(made)
    data.setup("fit")
    data.setup("test")
    calibration, _ = _answers(task, data.val_dataloader())
    found, patients = _answers(task, data.test_dataloader())
    partners = torch.from_numpy(other_patient_permutation(patients))
    probabilities, labels = found[:, 0], found[:, 1]
    fitted = fit_thresholds(calibration[:, 0], calibration[:, 1], split="validation patients")
    oracle = fit_thresholds(probabilities, labels, split="oracle")
    scored = clinical_scores((probabilities > 0.5).float(), labels, CT_RATE_LABELS)
    shuffled = clinical_scores((probabilities > 0.5).float(), labels[partners], CT_RATE_LABELS)
    return {
        **{name: float(scored[name]) for name in SCORES},
        **{f"other_patient_{name}": float(shuffled[name]) for name in SCORES},
        "macro_auroc": float(classifier_scores(probabilities, labels)["macro_auroc"]),
        "fitted_macro_f1": float(threshold_scores(probabilities, labels, fitted)["scores"]["macro_f1"]),
        "oracle_macro_f1": float(threshold_scores(probabilities, labels, oracle)["scores"]["macro_f1"]),
    }


def reliance_arms(checkpoint: str, made: Mapping[str, str], generation: Mapping[str, Any]) -> dict[str, Any]:
    """Return F1 of the labels of written reports, with the right volumes and with wrong ones.

    Args:
        checkpoint: Of phase 3 or 4.
        made: Shared step to what it made.
        generation: Options of ``generate_batch``.
    """
    task, data = load_task(checkpoint).eval(), held_out(made)
    data.setup("test")
    # volumes differ in their number of slices: exchanged ones need batches of one length
    batches = pad_to_longest(list(data.test_dataloader()))
    options = {**SAMPLING, **generation}
    found = visual_reliance(
        task, batches, ARMS, seeds=(0,), scores=SCORES, n_resamples=2, generation=options, progress=False
    )
    return {arm: {name: float(found.arms[arm][name].value) for name in SCORES} for arm in ARMS}


def f1_by_epoch(checkpoint: str) -> list[float]:
    """Return generation F1 of each validation of a phase.

    Args:
        checkpoint: Of the phase; its last one lies beside it.
    """
    from pathlib import Path

    states = read_checkpoint(Path(checkpoint).with_name("last.ckpt"))["callbacks"]
    return [float(point["gen_f1"]) for point in states["CollapseMonitor"]["history"]]


def _answers(task: Any, batches: Any) -> tuple[Tensor, Sequence[str]]:
    """Return probabilities and labels ``(N, 2, K)``, and the patients."""
    rows, patients = [], []
    for batch in batches:
        rows.append(torch.stack([task(batch).logits.sigmoid(), batch["labels"].float()], dim=1))
        patients += batch["patient_id"]
    return torch.cat(rows), patients
