"""Scores of the demo on held-out patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from rich.progress import track

from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.functional import classifier_scores
from ct_vlm.phantoms import LOCATED_LABELS, expected_location, find_location
from ct_vlm.tasks.report_scores import score_reports
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.cli.demo.stages import DemoRun
    from ct_vlm.datamodules import CTRateDataModule
    from ct_vlm.phantoms import Finding
    from ct_vlm.tasks import ClassificationLightningModule, ReportLightningModule

_REPORT_KEYS = ("micro_precision", "micro_recall", "micro_f1", "macro_f1", "weighted_f1", "samples_f1", "bleu_mean")
_SHUFFLED_KEYS = ("micro_f1", "macro_f1")


@torch.no_grad()
def held_out_records(
    run: DemoRun, report: ReportLightningModule, classifier: ClassificationLightningModule, data: CTRateDataModule
) -> list[dict[str, Any]]:
    """Write the report of every held-out volume and classify it."""
    report.eval()
    classifier.eval()
    records: list[dict[str, Any]] = []
    loader = data.test_dataloader()
    for index, batch in enumerate(track(loader, "Writing held-out reports", disable=not run.progress, transient=True)):
        windowed = data.on_after_batch_transfer(batch, 0)
        probabilities = classifier(windowed["image"]).sigmoid()
        rows = report.predict_step(windowed, index)
        records += [{**row, "probabilities": p.tolist()} for row, p in zip(rows, probabilities, strict=True)]
    return records


def score(
    records: Sequence[dict[str, Any]], findings: Mapping[str, Sequence[Finding]], seed: int
) -> dict[str, dict[str, Any] | int]:
    """Return the demo's scores.

    Args:
        records: From :func:`held_out_records`.
        findings: True findings of each volume.
        seed: Seed of the shuffled control.
    """
    scores = score_reports(records, seed)
    classes = classifier_scores(
        torch.tensor([r["probabilities"] for r in records]), torch.tensor([r["labels"] for r in records])
    )
    report: dict[str, Any] = {key: scores[key] for key in _REPORT_KEYS if key in scores}
    report["per_label"] = scores["per_label"]
    report["labeler"], report["protocol"] = scores["labeler"], scores["protocol"]
    report["location_accuracy"], report["located_true_positives"] = location_accuracy(records, findings)
    return {
        "report": report,
        "report_shuffled": {
            key: scores[f"shuffled_{key}"] for key in ("micro_f1", "macro_f1") if f"shuffled_{key}" in scores
        },
        "classifier": {k: float(v) for k, v in classes.items() if isinstance(v, int | float)},
        "distinct_reports": int(scores["distinct_reports"]),
    }


def location_accuracy(
    records: Sequence[dict[str, Any]], findings: Mapping[str, Sequence[Finding]]
) -> tuple[float, int]:
    """Return the share of correctly reported findings whose side or lobe is right, and their number.

    Only labels whose place varies count, and only where the finding is there and reported. A place
    is right if exactly the true sides (or lobes, where the finding has one) are named.
    """
    labeler = RuleLabeler()
    right = total = 0
    for record, row in zip(records, labeler([r["prediction"] for r in records]), strict=True):
        reported = {name for name, value in zip(CT_RATE_LABELS, row, strict=True) if value}
        for finding in findings[record["volume_id"]]:
            expected = expected_location(finding)
            if finding.label in LOCATED_LABELS and finding.label in reported and expected:
                total += 1
                right += find_location(record["prediction"], finding.label) == expected
    return (right / total if total else 0.0), total
