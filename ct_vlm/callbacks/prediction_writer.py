"""Predicted reports to a CSV file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch.distributed as dist
from lightning.pytorch.callbacks import BasePredictionWriter

from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import LightningModule, Trainer

_COLUMNS = ("volume_id", "study_id", "patient_id", "task", "prompt", "prediction", "reference")
_LIST_COLUMNS = ("abnormalities", "abnormalities_reference")
_REGION_COLUMNS = {"region": "region_reports", "region_reference": "region_references"}
"""What heads a region's columns, and the key of a record they come from."""


class ReportWriter(BasePredictionWriter):
    """Write the records of ``predict`` to one CSV when it ends.

    The records of all processes are merged; the file has the columns ``volume_id``,
    ``prediction`` and, where the data has them, ``reference``, ``study_id`` and ``patient_id``, and
    ``prompt`` and ``task`` of questions. Reports that were written region by region have a column
    ``region:<name>`` for each, and ``region_reference:<name>`` where the data has texts of regions.
    A list of abnormalities that was written before the report is in ``abnormalities``, the data's in
    ``abnormalities_reference``.
    With masks of regions a last column ``grounding`` holds, as JSON, the slice and the mask behind each region,
    see :func:`ct_vlm.tasks.grounding_records.grounding_records`.

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
        rows = [_row(key, record) for key, record in sorted(unique.items())]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(rows)
        first = [column for column in (*_COLUMNS, *_LIST_COLUMNS) if column in table]
        # all that was written, then all references, each in the order of the regions
        regions = [
            column for prefix in _REGION_COLUMNS for column in map(str, table) if column.startswith(f"{prefix}:")
        ]
        with atomic_path(self.path) as temporary:
            last = [column for column in ("grounding",) if column in table]
            table[[*first, *regions, *last]].to_csv(temporary, index=False)


def _row(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a record."""
    row = {"volume_id": name, **{column: record[column] for column in (*_COLUMNS, *_LIST_COLUMNS) if column in record}}
    for prefix, key in _REGION_COLUMNS.items():
        row |= {f"{prefix}:{region}": text for region, text in record.get(key, {}).items()}
    if "grounding" in record:
        known = {"regions": record["grounding"], "mask_provenance": record.get("mask_provenance")}
        row["grounding"] = json.dumps(known, ensure_ascii=False)
    return row
