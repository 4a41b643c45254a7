"""Scores of the list of abnormalities that a model writes before its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.metrics.functional import clinical_scores
from ct_vlm.text.abnormality_reading import read_abnormalities

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from ct_vlm.tasks.report_scores import Labeler
    from ct_vlm.text.abnormality_lists import Abnormality

_KEPT = ("micro_precision", "micro_recall", "micro_f1", "macro_precision", "macro_recall", "macro_f1")


def list_scores(records: Sequence[dict[str, Any]], labeler: Labeler, targets: np.ndarray | None) -> dict[str, float]:
    r"""Score lists by their labels, alone and with the report, and entry by entry.

    ==================== ==========================================================================
    score                what
    ==================== ==========================================================================
    ``list/micro_f1`` …  labels that the list states, against the true labels
    ``both/micro_f1`` …  labels that list or report state
    ``list/exact_*``     entries with the same region and the same words, of those written (precision)
                         and of those of the reference (recall)
    ``list/region_*``    pairs of region and label, in the same way
    ``list/problems``    share of lists of which some part could not be read
    ==================== ==========================================================================

    Args:
        records: ``prediction`` and ``abnormalities`` each, and ``abnormalities_reference`` where known.
        labeler: Finds labels in texts.
        targets: True labels, None where unknown.

    Shape:
        - targets: ``(B, K)``.

    Example:
        >>> from ct_vlm.metrics import RuleLabeler
        >>> from ct_vlm.tasks.list_scores import list_scores
        >>> record = {"prediction": "", "abnormalities": "(Lung: A nodule.)"}
        >>> record["abnormalities_reference"] = "(Lung: A nodule.)\n(Heart: Cardiomegaly.)"
        >>> found = list_scores([record], RuleLabeler(), None)
        >>> found["list/exact_precision"], found["list/region_recall"]
        (1.0, 0.5)
    """
    read = [read_abnormalities(record["abnormalities"]) for record in records]
    scores = {"list/problems": float(np.mean([bool(found.problems) for found in read]))}
    if targets is not None:
        texts = ["\n".join(text for _, text in found.entries) for found in read]
        stated = np.asarray(labeler(texts))
        told = np.asarray(labeler([record["prediction"] for record in records]))
        for name, rows in (("list", stated), ("both", np.fmax(stated, told))):
            found = clinical_scores(rows, targets, labeler.label_names)
            scores.update({f"{name}/{key}": found[key] for key in _KEPT if found.get(key) is not None})
    if all(record.get("abnormalities_reference") is not None for record in records):
        written = [found.entries for found in read]
        true = [read_abnormalities(record["abnormalities_reference"]).entries for record in records]
        scores.update(_matched("exact", written, true, _same_words))
        scores.update(_matched("region", written, true, lambda entries: _region_labels(entries, labeler)))
    return scores


def _matched(
    name: str,
    written: Sequence[Sequence[Abnormality]],
    true: Sequence[Sequence[Abnormality]],
    keys: Callable[[Sequence[Abnormality]], set[Hashable]],
) -> dict[str, float]:
    """Return precision, recall and F1 of keys over all lists; those that are undefined are left out."""
    found, wanted = [keys(entries) for entries in written], [keys(entries) for entries in true]
    hits = sum(len(own & other) for own, other in zip(found, wanted, strict=True))
    sizes = {"precision": sum(map(len, found)), "recall": sum(map(len, wanted))}
    scores = {f"list/{name}_{key}": hits / size for key, size in sizes.items() if size}
    total = sum(sizes.values())
    return {**scores, f"list/{name}_f1": 2 * hits / total} if total else scores


def _same_words(entries: Sequence[Abnormality]) -> set[Hashable]:
    """Return region and words of each entry, whatever case and blanks."""
    return {(region, " ".join(text.lower().split()).rstrip(".")) for region, text in entries}


def _region_labels(entries: Sequence[Abnormality], labeler: Labeler) -> set[Hashable]:
    """Return region and label of whatever the entries state."""
    rows = labeler([text for _, text in entries]) if entries else []
    return {
        (entry.region, label)
        for entry, row in zip(entries, rows, strict=True)
        for label, value in zip(labeler.label_names, row, strict=True)
        if value == 1
    }
