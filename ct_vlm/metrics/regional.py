"""Scores of a report region by region."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import DatasetError
from ct_vlm.metrics.functional.clinical import clinical_scores
from ct_vlm.metrics.functional.inputs import check_pairs
from ct_vlm.metrics.functional.overlap import nlg_statistics
from ct_vlm.metrics.labeler import RuleLabeler
from ct_vlm.text.region_lexicon import OTHER, check_scheme, merge_regions, split_regions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LABEL_SCORES = ("micro_precision", "micro_recall", "micro_f1", "support")


@dataclass(frozen=True)
class RegionScores:
    """Scores of each region, and their mean over regions.

    Args:
        regions: Region to its scores; see :func:`region_scores`.
        mean: Mean of each score over the regions that have it.
        scheme: ``"radgenome"``, ``"medregion"``, or ``"given"`` for regions of the caller's.
        source: ``"given"`` if all texts came by region, ``"inferred"`` if reports were split by the
            lexicon, else ``"mixed"``.
        labeler: Name of the labeler.
        protocol: Protocol of the word-overlap scores.
        num_samples: Number of reports.
    """

    regions: dict[str, dict[str, float | None]]
    mean: dict[str, float | None]
    scheme: str
    source: str
    labeler: str
    protocol: str
    num_samples: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def region_scores(
    predictions: Sequence[str | Mapping[str, str] | None],
    references: Sequence[str | Mapping[str, str]],
    scheme: str | Sequence[str] = "radgenome",
    *,
    labeler: Any = None,
    protocol: str = "vlm3d",
    metrics: Sequence[str] = ("bleu", "rouge"),
) -> RegionScores:
    """Score what reports say about each region.

    Word overlap is taken over the reports whose *reference* mentions the region; where the
    prediction does not, it counts as empty. Labels are compared over all reports of the region,
    mentioned or not: a finding that is put into the wrong region is wrong in both.

    Args:
        predictions: Texts by region, or whole reports, which are then split by the lexicon of
            :func:`~ct_vlm.text.region_lexicon.split_regions` (inferred); None where missing.
        references: The same of the true reports.
        scheme: ``"radgenome"`` (ten regions), ``"medregion"`` (six, ten are merged), or names of any
            regions; then both sides come by region.
        labeler: Labels texts; the rule labeler unless given.
        protocol: Of :func:`~ct_vlm.metrics.functional.nlg_scores`.
        metrics: Which word-overlap scores: any of ``"bleu"``, ``"rouge"`` and ``"cider"``.

    Returns:
        Of each region ``num_references`` and ``num_predictions`` (that mention it), ``coverage`` (of
        the references that mention it, the share whose prediction does), ``invented`` (of the
        predictions that mention it, the share whose reference does not), ``micro_precision``,
        ``micro_recall``, ``micro_f1`` and ``support`` of labels, and the word-overlap scores. None
        where undefined.

    Raises:
        ShapeError: If there are not as many predictions as references.
        DatasetError: If an item is neither text nor a dict of texts.
        ConfigError: If a scheme or region is unknown.

    Example:
        >>> from ct_vlm.metrics import region_scores
        >>> found = region_scores(["Heart size is normal. A nodule."], ["Heart size is normal. Lungs are clear."])
        >>> round(found.regions["heart"]["bleu_1"], 3), found.regions["lung"]["micro_precision"]
        (1.0, 0.0)
    """
    check_pairs(predictions, references)
    names = (*(check_scheme(scheme) if isinstance(scheme, str) else dict.fromkeys(scheme)), OTHER)
    labeler = RuleLabeler() if labeler is None else labeler
    found = [_by_region(item, scheme, row, "predictions") for row, item in enumerate(predictions)]
    true = [_by_region(item, scheme, row, "references") for row, item in enumerate(references)]
    regions = {}
    for name in names:
        said, truth = [item.get(name, "") for item in found], [item.get(name, "") for item in true]
        if any(said) or any(truth):
            regions[name] = _score(said, truth, labeler, protocol, metrics)
    given = [not isinstance(item, str) for item in (*predictions, *references) if item is not None]
    return RegionScores(
        regions=regions,
        mean=_means([scores for name, scores in regions.items() if name != OTHER]),
        scheme=scheme if isinstance(scheme, str) else "given",
        source="mixed" if any(given) and not all(given) else "given" if all(given) else "inferred",
        labeler=labeler.name,
        protocol=protocol,
        num_samples=len(references),
    )


def _by_region(item: Any, scheme: str | Sequence[str], row: int, name: str) -> dict[str, str]:
    """Return the texts of one report by region."""
    if item is None and name == "predictions":
        return {}
    if isinstance(item, str) and isinstance(scheme, str):
        return split_regions(item, scheme)
    if isinstance(item, dict) and all(isinstance(text, str) for text in item.values()):
        return merge_regions(item, scheme) if isinstance(scheme, str) else _given(item, scheme, row, name)
    cause = f"`{name}` is neither a report nor a dict of region texts in row {row}: {item!r}."
    raise DatasetError(cause, "Pass strings (with a named scheme), or dicts from region to text.")


def _given(item: Mapping[str, str], regions: Sequence[str], row: int, name: str) -> dict[str, str]:
    """Return the texts of regions of the caller's that say something."""
    unknown = sorted(set(item) - {*regions, OTHER})
    if unknown:
        cause = f"`{name}` has texts of {unknown} in row {row}, which are none of the regions {list(regions)}."
        raise DatasetError(cause, "Name every region in `scheme`.")
    return {region: text.strip() for region, text in item.items() if text.strip()}


def _score(
    said: Sequence[str], truth: Sequence[str], labeler: Any, protocol: str, metrics: Sequence[str]
) -> dict[str, float | None]:
    """Score one region."""
    has_said, has_truth = np.array([bool(text) for text in said]), np.array([bool(text) for text in truth])
    both = int((has_said & has_truth).sum())
    scores: dict[str, float | None] = {
        "num_references": int(has_truth.sum()),
        "num_predictions": int(has_said.sum()),
        "coverage": both / int(has_truth.sum()) if has_truth.any() else None,
        "invented": 1 - both / int(has_said.sum()) if has_said.any() else None,
    }
    labels = clinical_scores(labeler(list(said)), labeler(list(truth)), labeler.label_names)
    is_defined = labels["support"] or any(cells["fp"] for cells in labels["per_label"].values())
    scores.update({key: labels[key] if is_defined else None for key in _LABEL_SCORES})
    rows = [row for row, is_there in enumerate(has_truth) if is_there]
    if rows:
        scores.update(
            nlg_statistics([said[row] for row in rows], [truth[row] for row in rows], protocol, metrics).scores()
        )
    return scores


def _means(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each score over the regions in which it is defined."""
    keys = dict.fromkeys(key for row in rows for key in row if not key.startswith("num_") and key != "support")
    known = {key: [value for row in rows if (value := row.get(key)) is not None] for key in keys}
    return {key: float(np.mean(values)) if values else None for key, values in known.items()}
