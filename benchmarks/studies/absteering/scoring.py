"""Scores of a run: written texts, and pairs of lists of held-out patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from benchmarks.studies.absteering.pairs import KINDS, list_pairs
from benchmarks.studies.absteering.scans import with_other_videos
from ct_vlm.datamodules import FeatureDataModule, PreferenceDataset
from ct_vlm.tasks.report_scores import score_reports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ct_vlm.datamodules import FeatureDataset
    from ct_vlm.tasks import ReportLightningModule

_CLINICAL = ("micro_precision", "micro_recall", "micro_f1", "macro_precision", "macro_recall", "macro_f1")
_LISTS = (*_CLINICAL, "region_precision", "region_recall", "region_f1", "problems")


def text_scores(records: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return the scores of reports, the same against another patient, and those of lists.

    Args:
        records: From :func:`benchmarks.studies.records.held_out_records`.
        seed: Seed of the shuffled control.
    """
    scores = score_reports(records, seed)
    names = (*_CLINICAL, "shuffled_micro_f1", "bleu_mean", "distinct_reports", *(f"list/{name}" for name in _LISTS))
    return {name: scores[name] for name in names if name in scores}


@torch.no_grad()
def pair_log_probs(task: ReportLightningModule, scans: FeatureDataset, seed: int) -> dict[str, Tensor]:
    """Return log-probabilities ``(N, 2)`` of true and wrong lists, with the right video and with another patient's.

    Args:
        task: Trained task of either stage.
        scans: Held-out scans.
        seed: Decides the wrong lists.
    """
    task.eval()
    videos, found = {"own": scans, "other": with_other_videos(scans)}, {}
    for kind in KINDS:
        pairs = list_pairs(scans, kind, seed)
        for video, seen in videos.items():
            paired: Any = PreferenceDataset(seen, pairs)
            data = FeatureDataModule({"test": paired}, eval_batch_size=16)
            rows = []
            for batch in data.test_dataloader():
                prompts, visual = task.prompts(batch, task.visual_context(batch), len(batch["chosen"]))
                branches = list(zip(batch["chosen"], batch["rejected"], strict=True))
                rows.append(task.decoder.branch_log_probs(prompts, branches, visual, ends=False).log_probs)
            found[f"{kind}/{video}"] = torch.cat(rows)
    return found


def pair_scores(policy: Mapping[str, Tensor], reference: Mapping[str, Tensor] | None) -> dict[str, float]:
    """Return how often the true list is preferred to the wrong one.

    ``likelier`` counts pairs whose true list has the higher probability; ``accuracy`` those whose true list
    gained more of it against the reference, which is what preference training is judged by.

    Args:
        policy: Log-probabilities by kind of pairs and video.
        reference: The same of stage 1; None for stage 1 itself, whose accuracy is ½ as nothing was gained.

    Shape:
        - policy, reference: ``(N, 2)`` each.
    """
    scores: dict[str, float] = {}
    for name, rows in policy.items():
        scores[f"{name}/pairs"] = len(rows)
        scores[f"{name}/likelier"] = _preferred(rows)
        scores[f"{name}/accuracy"] = 0.5 if reference is None else _preferred(rows - reference[name])
    return scores


def _preferred(rows: Tensor) -> float:
    """Return the share of rows whose first value is the larger; equal ones count half."""
    return float(((rows[:, 0] - rows[:, 1]).sign() + 1).mean() / 2)
