"""What the records of a report task say of the masks and slices that a text rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.models.grounding import region_slices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.models import VisionLanguageModel


def grounding_records(model: VisionLanguageModel, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each sample its regions with their slices, and who drew the masks.

    Args:
        model: Its R² pooling, if it has one, says which slices it kept.
        batch: Holds ``region_masks`` and ``features``; ``region_names``, ``region_mask_found``,
            ``slice_file_index``, ``slice_position_mm`` and ``mask_provenance`` are taken over where it has them.

    Shape:
        - region_masks: ``(B, R, D, H, W)``.

    Returns:
        For each sample ``grounding``, region to ``slice_index``, ``is_present``, ``is_fallback``,
        ``in_detail``, ``mask_found``, ``file_slice`` (None in padding) and ``position_mm``; and
        ``mask_provenance``. They mean what :class:`ct_vlm.models.GroundedRegion` says.
    """
    found = region_slices(model, batch["features"], batch)
    size, count = found.index.shape
    index, present, detail = found.index.tolist(), found.present.tolist(), found.in_detail.tolist()
    names = batch.get("region_names") or [[str(number) for number in range(count)]] * size
    records = []
    for row in range(size):
        regions = {}
        for number, name in enumerate(names[row]):
            chosen = index[row][number]
            regions[name] = {
                "slice_index": chosen,
                "is_present": present[row][number],
                "is_fallback": not present[row][number],
                "in_detail": detail[row][number],
                **_places(batch, row, number, chosen),
            }
        record: dict[str, Any] = {"grounding": regions}
        if batch.get("mask_provenance") is not None:
            record["mask_provenance"] = batch["mask_provenance"][row]
        records.append(record)
    return records


def _places(batch: Mapping[str, Any], row: int, number: int, chosen: int) -> dict[str, Any]:
    """Return what the data knows of a region's mask and of the place of its slice."""
    known: dict[str, Any] = {}
    if batch.get("region_mask_found") is not None:
        known["mask_found"] = bool(batch["region_mask_found"][row, number])
    if batch.get("slice_file_index") is not None:
        stored = int(batch["slice_file_index"][row, chosen])
        known["file_slice"] = stored if stored >= 0 else None
    if batch.get("slice_position_mm") is not None:
        known["position_mm"] = round(float(batch["slice_position_mm"][row, chosen]), 3)
    return known
