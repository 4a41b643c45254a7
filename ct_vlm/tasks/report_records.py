"""What a report task keeps of each sample it wrote a text for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.tasks.records import sample_ids
from ct_vlm.text.region_reports import merge_region_reports
from ct_vlm.text.steering import read_cot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.text.region_prompts import RegionPrompts

_COPIED = ("volume_id", "study_id", "patient_id", "prompt", "task")
"""Keys of a batch that records take over, where a batch has them."""


def report_records(texts: Sequence[str], batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
    """Return one record a sample.

    Args:
        texts: What was written, one text a sample.
        batch: The batch.
        batch_idx: Its number, for samples without a name.

    Returns:
        ``id``, ``prediction`` and, where the batch has them, ``volume_id``, ``study_id``,
        ``patient_id``, ``prompt``, ``task``, ``reference`` and ``labels``. Where the batch has lists of
        abnormalities, a text is taken for a list and a report: ``prediction`` is the report,
        ``abnormalities`` the list, ``written`` the text as it was, and ``abnormalities_reference`` the
        batch's list where it is known.

    Example:
        >>> from ct_vlm.tasks.report_records import report_records
        >>> report_records(["Clear."], {"volume_id": ["a"], "report": ["Clear lungs."]}, 0)
        [{'id': 'a', 'prediction': 'Clear.', 'volume_id': 'a', 'reference': 'Clear lungs.'}]
    """
    records = []
    for row, (name, text) in enumerate(zip(sample_ids(batch, len(texts), batch_idx), texts, strict=True)):
        record: dict[str, Any] = {"id": name, "prediction": text}
        record.update({key: batch[key][row] for key in _COPIED if batch.get(key) is not None})
        if batch.get("report") is not None:
            record["reference"] = batch["report"][row]
        if batch.get("labels") is not None:
            record["labels"] = torch.as_tensor(batch["labels"][row]).tolist()
        if batch.get("abnormalities") is not None:
            parts = read_cot(text)
            record.update(prediction=parts.report, abnormalities=parts.list_text, written=text)
            if batch["abnormalities"][row] is not None:
                record["abnormalities_reference"] = batch["abnormalities"][row]
        records.append(record)
    return records


def region_records(
    written: Sequence[dict[str, str]], prompts: RegionPrompts, batch: Mapping[str, Any], batch_idx: int
) -> list[dict[str, Any]]:
    r"""Return one record a sample whose text was written region by region.

    Args:
        written: Region to text, a dict a sample.
        prompts: The regions in their order.
        batch: The batch.
        batch_idx: Its number, for samples without a name.

    Returns:
        As :func:`report_records`: ``prediction`` is the merged report; also ``region_reports`` and,
        where the batch has texts of regions, ``region_references``.

    Example:
        >>> from ct_vlm.tasks.report_records import region_records
        >>> from ct_vlm.text import RegionPrompts
        >>> written = [{"lung": "Clear.", "bone": "No fracture."}]
        >>> record = region_records(written, RegionPrompts(["bone", "lung"]), {"volume_id": ["a"]}, 0)[0]
        >>> record["prediction"]
        'Bone: No fracture.\nLung: Clear.'
    """
    merged = [merge_region_reports(texts, prompts.names, skip_blank=True) for texts in written]
    records = report_records(merged, batch, batch_idx)
    references = batch.get("region_reports")
    for row, (record, texts) in enumerate(zip(records, written, strict=True)):
        record["region_reports"] = {name: texts[name] for name in prompts.names}
        if references is not None:
            known = references[row]
            record["region_references"] = {name: known[name] for name in prompts.names if name in known}
    return records
