"""Does a model write different reports at all?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ct_vlm.metrics.functional.inputs import as_predicted_texts

if TYPE_CHECKING:
    from collections.abc import Sequence


def collapse_scores(reports: Sequence[str | None]) -> dict[str, Any]:
    """Return how far generated reports differ from each other.

    Args:
        reports: Generated reports; ``None`` where missing. Case and white space do not tell two
            reports apart.

    Returns:
        ``distinct_reports``, ``distinct_share`` (of all reports), ``most_frequent_share`` and
        ``most_frequent_report``.

    Example:
        >>> from ct_vlm.metrics.functional import collapse_scores
        >>> scores = collapse_scores(["Normal.", "normal.", "Effusion.", "Normal."])
        >>> scores["distinct_reports"], scores["most_frequent_share"]
        (2, 0.75)
    """
    texts, _ = as_predicted_texts(reports)
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
