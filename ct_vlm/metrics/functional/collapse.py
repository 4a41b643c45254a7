"""Does a model write different reports at all?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.metrics.functional.inputs import as_label_matrix, as_predicted_texts

if TYPE_CHECKING:
    from collections.abc import Sequence


def collapse_scores(reports: Sequence[str | None], labels: Any = None, reference_labels: Any = None) -> dict[str, Any]:
    """Return how far generated reports differ from each other, in words and in what they find.

    Reports that repeat a few label sets have collapsed even if their wording varies: then the entropy
    of their label sets lies below that of the true ones.

    Args:
        reports: Generated reports; ``None`` where missing. Case and white space do not tell two
            reports apart.
        labels: Labels of the generated reports.
        reference_labels: True labels of the same samples.

    Returns:
        ``distinct_reports``, ``distinct_share`` (of all reports), ``most_frequent_share`` and
        ``most_frequent_report``; with labels also ``distinct_label_sets``, ``label_set_entropy``
        (bits, see :func:`label_set_entropy`) and ``label_set_entropy_limit`` (log2 of the number of
        reports); with true labels the same with the prefix ``reference_``.

    Shape:
        - labels, reference_labels: ``(B, K)``.

    Example:
        >>> from ct_vlm.metrics.functional import collapse_scores
        >>> scores = collapse_scores(["Normal.", "normal.", "Effusion.", "Normal."], [[0], [0], [1], [0]])
        >>> scores["distinct_reports"], scores["most_frequent_share"], round(scores["label_set_entropy"], 3)
        (2, 0.75, 0.811)
    """
    texts, _ = as_predicted_texts(reports)
    found = _of_texts(texts)
    for prefix, given in (("", labels), ("reference_", reference_labels)):
        if given is not None:
            matrix = _as_sets(given)
            found[f"{prefix}distinct_label_sets"] = len(np.unique(matrix, axis=0)) if len(matrix) else 0
            found[f"{prefix}label_set_entropy"] = label_set_entropy(given)
            found["label_set_entropy_limit"] = float(np.log2(len(matrix))) if len(matrix) else 0.0
    return found


def label_set_entropy(labels: Any) -> float:
    """Return the entropy of label sets in bits.

    It is the plug-in estimate, which cannot exceed log2 of the number of reports: compare only sets
    of equally many reports.

    Args:
        labels: 0/1 labels; NaN counts as 0.

    Shape:
        - labels: ``(B, K)``.

    Example:
        >>> from ct_vlm.metrics.functional import label_set_entropy
        >>> label_set_entropy([[1, 0], [0, 1], [1, 1], [0, 0]])
        2.0
    """
    matrix = _as_sets(labels)
    if not len(matrix):
        return 0.0
    _, counts = np.unique(matrix, axis=0, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def _as_sets(labels: Any) -> Any:
    """Return labels as a boolean matrix."""
    width = np.shape(labels)[-1] if len(labels) else 0
    return as_label_matrix(labels, "labels", width).numpy() == 1


def _of_texts(texts: Sequence[str]) -> dict[str, Any]:
    """Count equal reports."""
    counts = Counter(" ".join(text.lower().split()) for text in texts)
    if not counts:
        return {"distinct_reports": 0, "distinct_share": 0.0, "most_frequent_share": 0.0, "most_frequent_report": ""}
    ((report, times),) = counts.most_common(1)
    written = next(text for text in texts if " ".join(text.lower().split()) == report)
    return {
        "distinct_reports": len(counts),
        "distinct_share": len(counts) / len(texts),
        "most_frequent_share": times / len(texts),
        "most_frequent_report": written,
    }
