"""Predicted reports to a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch.distributed as dist
from lightning.pytorch.callbacks import BasePredictionWriter

from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import LightningModule, Trainer


class ReportWriter(BasePredictionWriter):
    """Write the records of ``predict`` to one CSV when it ends.

    The records of all processes are merged; the file has the columns ``volume_id``,
    ``prediction`` and, where the data has them, ``reference``, ``study_id`` and ``patient_id``.

    Args:
        path: CSV file to write.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """Merge and write the records."""
        records = [record for batch in predictions for record in batch]
        shards = [records]
        if dist.is_available() and dist.is_initialized():
            shards = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(shards, records)
        if not trainer.is_global_zero:
            return
        unique = {record["id"]: record for shard in shards for record in shard}
        columns = ["volume_id", "study_id", "patient_id", "prediction", "reference"]
        rows = [{"volume_id": key, **{c: r[c] for c in columns if c in r}} for key, r in sorted(unique.items())]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(rows)
        with atomic_path(self.path) as temporary:
            table[[c for c in columns if c in table]].to_csv(temporary, index=False)
