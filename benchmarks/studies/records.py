"""What a trained model writes of held-out scans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from rich.progress import track

from ct_vlm.datamodules import FeatureDataModule

if TYPE_CHECKING:
    from ct_vlm.datamodules import FeatureDataset
    from ct_vlm.tasks import ReportLightningModule


@torch.no_grad()
def held_out_records(task: ReportLightningModule, scans: FeatureDataset, *, progress: bool) -> list[dict[str, Any]]:
    """Return records of the reports written of scans, of all their regions where the task writes regions.

    Args:
        task: Trained task.
        scans: Scans of other patients.
        progress: Show a progress bar.
    """
    task.eval()
    data = FeatureDataModule({"test": scans}, batch_size=1, eval_batch_size=50)
    records: list[dict[str, Any]] = []
    for index, batch in enumerate(track(data.test_dataloader(), "Writing", disable=not progress, transient=True)):
        records += task.predict_step(batch, index)
    return records
